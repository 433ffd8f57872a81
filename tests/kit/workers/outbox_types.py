"""Task types that an application submits with its transactions."""

from __future__ import annotations

from celeriac import task


@task("outbox.invoice")
def invoice(order: int) -> int:
    """Pretend to send an invoice."""
    return order


@task("outbox.receipt")
def receipt(order: int) -> int:
    """Pretend to send a receipt."""
    return order
