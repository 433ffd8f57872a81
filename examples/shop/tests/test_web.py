"""The shop as its customers use it, on the whole platform."""

from __future__ import annotations

from fastapi.testclient import TestClient
from shop.web import app

from celeriac.testing import Platform

ORDER = {"email": "ann@example.com", "items": [{"name": "tea", "count": 1}, {"name": "cup", "count": 1}]}


def test_an_order_is_followed_until_it_is_sent(celeriac_platform: Platform) -> None:
    shop = TestClient(app)
    taken = shop.post("/orders", json=ORDER)
    assert taken.status_code == 202
    number = taken.json()["number"]
    with shop.stream("GET", f"/orders/{number}/events") as answer:
        told = [line for line in answer.iter_lines() if line]
    assert told[-2:] == ["event: done", "data: completed"]
    assert "data: 0 1 × tea" in told
    assert shop.get(f"/orders/{number}/receipt").json() == {"number": number, "total": 16.5, "parcels": 2}
    assert shop.get(f"/orders/{number}").json()["status"] == "sent"
    record = celeriac_platform.client.get(taken.json()["task_id"])
    assert (record.type, record.tags) == ("fulfil", ("order",))


def test_what_the_shop_does_not_sell_is_refused() -> None:
    answer = TestClient(app).post("/orders", json={**ORDER, "items": [{"name": "coffee"}]})
    assert (answer.status_code, answer.json()["detail"]) == (422, "the shop does not sell coffee")


def test_an_order_can_be_cancelled(celeriac_platform: Platform) -> None:
    shop = TestClient(app)
    number = shop.post("/orders", json={**ORDER, "items": [{"name": "pot", "count": 20}]}).json()["number"]
    shop.post(f"/orders/{number}/cancel")
    with shop.stream("GET", f"/orders/{number}/events") as answer:
        assert "data: cancelled" in list(answer.iter_lines())
