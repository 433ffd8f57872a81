"""The tasks as plain functions: no server, some milliseconds."""

from __future__ import annotations

from shop import orders
from shop.orders import Item
from shop.tasks import count_sales, fulfil

from celeriac.testing import run_task


def test_an_order_is_packed_item_by_item_and_sent() -> None:
    order = orders.add("ann@example.com", [Item(name="tea", count=1), Item(name="cup", count=1)])
    outcome = run_task(fulfil, {"number": order.number})
    assert outcome.result == {"number": order.number, "total": 16.5, "parcels": 2}
    assert [report.message for report in outcome.progress] == ["1 × tea", "1 × cup"]
    sent = orders.get(order.number)
    assert sent is not None
    assert sent.status == "sent"
    assert count_sales()["cup"] >= 1


def test_an_order_that_is_sent_is_not_sent_again() -> None:
    order = orders.add("ann@example.com", [Item(name="pot")])
    orders.update(order.number, status="sent")
    assert run_task(fulfil, {"number": order.number}).progress == ()


def test_an_unknown_order_is_not_tried_again() -> None:
    outcome = run_task(fulfil, {"number": 999_999})
    assert outcome.error is not None
    assert (outcome.error.code, outcome.would_retry_in_s) == ("unknown_order", None)
