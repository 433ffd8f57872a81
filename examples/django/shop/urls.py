"""The addresses of the shop."""

from django.contrib import admin
from django.urls import include, path
from orders import views

urlpatterns = [
    path("", views.index, name="index"),
    path("orders/", views.place, name="place"),
    path("orders/<int:number>/", views.show, name="order"),
    path("celeriac/", include("celeriac.contrib.django.urls")),
    path("admin/", admin.site.urls),
]
