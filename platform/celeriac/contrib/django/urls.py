"""The addresses of the project's own views: `path("celeriac/", include("celeriac.contrib.django.urls"))`."""

from __future__ import annotations

from django.urls import path

from celeriac.contrib.django import views

app_name = "celeriac"
urlpatterns = [
    path("token/", views.token, name="token"),
    path("<str:name>", views.script, name="script"),
]
