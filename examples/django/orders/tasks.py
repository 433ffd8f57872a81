"""What the shop does in the background: tasks of Django, and one of Celeriac that reports how far it is."""

import time

from django.db import transaction
from django.utils import timezone, translation
from shop.tasks_interface import TaskContext, task

from celeriac import BlockingContext
from celeriac import task as celeriac_task
from celeriac.contrib.django import celeriac_options
from orders.models import Order


@task
def count_orders() -> int:
    """Return how many orders there are."""
    return Order.objects.count()


@task
async def count_orders_async() -> int:
    """Return the same, without blocking a thread."""
    return await Order.objects.acount()


@task(queue_name="mail", priority=50, takes_context=True)
@celeriac_options(max_retries=3, retry_delay_s=0.2)
def send_receipt(context: TaskContext, order: int, *, times: int = 1) -> str:
    """Pretend to send the receipt of an order; the first attempts fail if `times` says so."""
    if context.attempt < times:
        raise ConnectionError("the mail server does not answer")
    return f"{Order.objects.get(pk=order)}, attempt {context.attempt}"


@task
def refuse(order: int) -> None:
    """Fail."""
    raise Order.DoesNotExist(f"there is no order {order}")


@task
def surroundings() -> dict[str, str]:
    """Return the language and the time zone in which a task runs."""
    return {"language": translation.get_language(), "zone": timezone.get_current_timezone_name()}


@celeriac_task("pack")
def pack(ctx: BlockingContext, order: int) -> int:
    """Pack an order, piece by piece."""
    found = Order.objects.get(pk=order)
    for piece in range(found.pieces):
        time.sleep(0.2)
        ctx.progress(100 * (piece + 1) / found.pieces, "packing", f"piece {piece + 1} of {found.pieces}")
    with transaction.atomic():
        found.packed_at = timezone.now()
        found.save()
    return found.pieces
