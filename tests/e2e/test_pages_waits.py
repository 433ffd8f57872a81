"""The page of what waits for a person, in a real browser, on a real platform with a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

SCHEMA = {
    "type": "object",
    "title": "Decision",
    "properties": {
        "approve": {"type": "boolean", "title": "Approve it"},
        "amount": {"type": "integer", "minimum": 0, "maximum": 500, "default": 120},
        "speed": {"enum": ["slow", "fast"]},
        "reason": {"anyOf": [{"type": "string", "minLength": 3}, {"type": "null"}], "default": None},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string", "minLength": 1}, "zip": {"type": "string"}},
            "required": ["street"],
        },
        "labels": {"type": "array", "items": {"enum": ["a", "b"]}},
        "more": {},
    },
    "required": ["approve", "amount", "speed"],
    "additionalProperties": False,
}

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("waits")) as address:
        yield address


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=30) as client:
        yield client


def ask(api: httpx.Client, **payload: Any) -> str:
    """Submit a task that waits for an answer; returns its id."""
    answer = api.post("tasks", json={"type": "wait", "payload": {"signal": "approval", "timeout": "1h", **payload}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def card(page: Page, task_id: str) -> Locator:
    return page.locator(f'.waits .card[data-task="{task_id}"]')


def result(page: Page, api: httpx.Client, task_id: str) -> Any:
    """Wait for the end of a task; returns its result."""
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(page.locator(".task-head .status")).to_have_text("completed")
    return api.get(f"tasks/{task_id}").json()["result"]


def test_a_question_is_answered_by_a_form_of_its_schema(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/waits")
    expect(page.get_by_role("heading", name="Waiting for you")).to_be_visible()
    task_id = ask(api, title="Refund 120 €", schema=SCHEMA)
    mine = card(page, task_id)
    expect(mine.get_by_role("heading", name="Refund 120 €")).to_be_visible()
    expect(mine.get_by_label("Amount")).to_have_value("120")
    answer = mine.get_by_role("button", name="Answer")
    answer.click()
    expect(mine.get_by_role("alert")).to_have_text("Speed: is missing")
    expect(mine.get_by_label("Speed")).to_be_focused()
    mine.get_by_label("Speed").select_option("fast")
    for written, told in (
        ("12.5", "12.5 is not a whole number"),
        ("x", "x is not a number"),
        ("501", "must be at most 500"),
    ):
        mine.get_by_label("Amount").fill(written)
        answer.click()
        expect(mine.get_by_role("alert")).to_have_text(f"Amount: {told}")
    mine.get_by_label("Amount").fill("99")
    mine.get_by_label("More").fill("{")
    answer.click()
    expect(mine.get_by_role("alert")).to_contain_text("More: is not JSON")
    mine.get_by_label("More").fill("[1, null]")
    mine.get_by_label("Approve it").check()
    mine.get_by_label("b", exact=True).check()
    # An object that is begun needs what it requires; one that is not is left out.
    mine.get_by_label("Zip").fill("1010")
    answer.click()
    expect(mine.get_by_role("alert")).to_have_text("Street: is missing")
    mine.get_by_label("Street").fill("Main street 1")
    answer.click()
    expect(mine).to_have_count(0)
    assert result(page, api, task_id) == {
        "approve": True,
        "amount": 99,
        "speed": "fast",
        "address": {"street": "Main street 1", "zip": "1010"},
        "labels": ["b"],
        "more": [1, None],
    }


def test_what_is_left_empty_is_left_out(page: Page, api: httpx.Client) -> None:
    task_id = ask(api, schema=SCHEMA)
    page.goto(f"/dashboard#/tasks/{task_id}")
    question = page.locator(".card", has=page.get_by_role("heading", name="approval"))
    question.get_by_label("Speed").select_option("slow")
    question.get_by_role("button", name="Answer").click()
    assert result(page, api, task_id) == {"approve": False, "amount": 120, "speed": "slow", "labels": []}


def test_a_question_without_a_schema_is_answered_in_json(page: Page, api: httpx.Client) -> None:
    for written, value in (('{"a": 1}', {"a": 1}), ("null", None), ("false", False)):
        task_id = ask(api)
        page.goto("/dashboard#/waits")
        card(page, task_id).get_by_label("Answer, as JSON").fill(written)
        card(page, task_id).get_by_role("button", name="Answer").click()
        expect(card(page, task_id)).to_have_count(0)
        assert result(page, api, task_id) == value


def test_a_form_stays_as_it_is_while_others_come_and_go(page: Page, api: httpx.Client) -> None:
    mine, other = ask(api, schema={"type": "string"}), ask(api)
    page.goto("/dashboard#/waits")
    field = card(page, mine).get_by_label("Answer")
    field.fill("half of")
    third = ask(api)
    expect(card(page, third)).to_be_visible()
    assert api.post(f"tasks/{other}/signals/approval", json=1).status_code == 202
    expect(card(page, other)).to_have_count(0)
    expect(field).to_have_value("half of")
    expect(field).to_be_focused()
    field.press("Enter")
    assert result(page, api, mine) == "half of"
    assert api.post(f"tasks/{third}/cancel").status_code == 200


def test_an_answer_that_came_too_late_is_said_so(browser: Browser, url: str, api: httpx.Client) -> None:
    with watched_page(browser, url, expected="status of 409") as page:
        task_id = ask(api, schema={"type": "integer"})
        page.goto(f"/dashboard#/tasks/{task_id}")
        question = page.locator(".card", has=page.get_by_role("heading", name="approval"))
        question.get_by_label("Answer").fill("2")
        # The answer of another user arrives, and this page hears of it too late.
        page.route(
            "**/signals/approval",
            lambda route: (api.post(f"tasks/{task_id}/signals/approval", json=1), route.continue_()),
        )
        question.get_by_role("button", name="Answer").click()
        expect(page.get_by_role("alert").filter(has_text="signal")).to_be_visible()
        expect(question).to_have_count(0)
        assert result(page, api, task_id) == 1


def test_a_handler_asks_and_runs_again_from_one_of_its_steps(page: Page, api: httpx.Client) -> None:
    answer = api.post("tasks", json={"type": "order.refund", "payload": {"amount": 120}})
    task_id = str(answer.json()["task_id"])
    page.goto(f"/dashboard#/tasks/{task_id}")
    question = page.locator(".card", has=page.get_by_role("heading", name="Refund 120 €"))
    steps = page.locator(".card", has=page.get_by_role("heading", name="Steps"))
    expect(steps).to_contain_text('{"booked":120}')
    expect(page.locator(".task-head .status")).to_have_text("waiting")
    expect(steps.get_by_role("button")).to_have_count(0)
    question.get_by_label("Pay it back").check()
    question.get_by_role("button", name="Answer").click()
    expect(page.locator(".task-head .status")).to_have_text("completed")
    expect(question).to_have_count(0)
    expect(steps).to_contain_text("2 steps")
    # The mail is a task of its own, which the handler has spawned.
    expect(page.locator('.family [data-key="node:order.refund/tell"]')).to_have_attribute("data-status", "completed")
    first = api.get(f"tasks/{task_id}").json()["result"]
    steps.locator("tr", has_text="stamp").get_by_role("button", name="Retry from here").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_text("The task waits for a worker again")).to_be_visible()
    page.get_by_text("All events with exact times").click()
    expect(page.locator(".events-table tr", has_text="Completed")).to_have_count(2)
    again = api.get(f"tasks/{task_id}").json()["result"]
    assert (again["booked"], again["approve"]) == (120, True)
    assert again["at"] > first["at"]


def test_the_page_fits_a_phone(browser: Browser, url: str, api: httpx.Client) -> None:
    task_id = ask(api, title="t" * 200, schema=SCHEMA)
    with watched_page(browser, url, viewport={"width": 360, "height": 740}) as page:
        for path in ("waits", f"tasks/{task_id}"):
            page.goto(f"/dashboard#/{path}")
            expect(page.get_by_role("button", name="Answer").first).to_be_visible()
            wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= window, f"{path} is {wide} pixels wide"
    assert api.post(f"tasks/{task_id}/cancel").status_code == 200
