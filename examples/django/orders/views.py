"""Pages of the shop."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from celeriac.contrib.django import submit_in
from orders.models import Order
from orders.tasks import pack, send_receipt


def index(request: HttpRequest) -> HttpResponse:
    """Show the orders, and a form for a new one."""
    return render(request, "orders/index.html", {"orders": Order.objects.order_by("-pk")[:20]})


@require_POST
def place(request: HttpRequest) -> HttpResponse:
    """Take an order. Its tasks are in the same transaction."""
    with transaction.atomic():
        order = Order.objects.create(customer=request.POST["customer"], pieces=int(request.POST.get("pieces", 1)))
        order.task_id = submit_in("default", pack, order=order.pk).id
        order.save()
        send_receipt.enqueue(order.pk)
    return redirect("order", number=order.pk)


def show(request: HttpRequest, number: int) -> HttpResponse:
    """Show an order."""
    return render(request, "orders/order.html", {"order": get_object_or_404(Order, pk=number)})
