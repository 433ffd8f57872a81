"""Errors and task types in a real browser: failures that are alike, their retry, and what a type's tasks did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

DECLINED = {"type": "card.charge", "payload": {"amount": 12, "card": "4000"}}

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("errors")) as address:
        yield address


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=20) as client:
        yield client


def submit(api: httpx.Client, count: int = 1, **more: Any) -> None:
    """Submit tasks that fail."""
    answer = api.post("tasks/batch", json={"tasks": [{**DECLINED, **more}] * count})
    assert {result["status"] for result in answer.json()["results"]} == {202}, answer.text


def error(page: Page) -> Any:
    return page.locator(".errors li")


def test_failures_that_are_alike_are_one_line_and_are_retried_by_their_number(page: Page, api: httpx.Client) -> None:
    submit(api, 3, queue="first")
    page.goto("/dashboard#/errors?queue=first")
    expect(error(page)).to_have_count(1)
    expect(error(page)).to_contain_text("the bank declined the card: insufficient funds")
    expect(error(page)).to_contain_text("card_declined")
    expect(error(page)).to_contain_text("3 failed now")
    expect(error(page).locator(".spark path")).to_be_visible()
    # The menu counts them too, and says of what.
    badge = (
        page.get_by_role("navigation", name="Main").get_by_role("link", name=re.compile("^Errors")).locator(".count")
    )
    expect(badge).to_have_text(re.compile("^[1-9]"))
    expect(badge).to_have_attribute("title", re.compile("failed in the last 24 hours"))

    error(page).get_by_role("button", name="Retry 3").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Retry 3 tasks?")
    expect(dialog).to_contain_text("the bank declined the card")
    dialog.get_by_role("button", name="Keep as it is").click()
    expect(error(page)).to_contain_text("3 failed now")
    error(page).get_by_role("button", name="Retry 3").click()
    dialog.get_by_role("button", name="Retry 3").click()
    jobs = page.locator(".card", has=page.get_by_role("heading", name="Bulk operations"))
    expect(jobs).to_contain_text("3 of 3")
    page.get_by_text("The retry runs as").get_by_role("link", name="a task").click()
    expect(page.get_by_role("heading", name="celeriac.bulk")).to_be_visible()


def test_an_example_and_the_tasks_of_an_error_are_a_click_away(page: Page, api: httpx.Client) -> None:
    submit(api, 2, queue="second")
    page.goto("/dashboard#/errors?queue=second")
    look = error(page).get_by_role("button", name="Example")
    expect(look).to_have_attribute("aria-expanded", "false")
    look.click()
    expect(look).to_have_attribute("aria-expanded", "true")
    expect(error(page).locator(".trace")).to_contain_text("the bank declined the card")
    expect(error(page).locator(".example a")).to_have_attribute("href", re.compile("^#/tasks/.{36}$"))
    look.click()
    expect(error(page).locator(".trace")).to_be_hidden()
    error(page).get_by_role("link", name="Show tasks").click()
    expect(page).to_have_url(re.compile("#/tasks\\?error_group=[0-9a-f]{16}&status=failed"))
    expect(page.locator(".list .row").first).to_contain_text("card.charge")


def test_errors_are_filtered_and_the_address_keeps_the_filter(page: Page, api: httpx.Client) -> None:
    submit(api, queue="third", key="acme")
    submit(api, queue="third", key="hooli")
    summary = page.get_by_role("status").filter(has_text="failed now")
    page.goto("/dashboard#/errors?queue=third")
    expect(summary).to_contain_text("2 failed now")
    page.get_by_label("Key").fill("acme")
    expect(summary).to_contain_text("1 failed now")
    expect(page).to_have_url(re.compile("key=acme"))
    page.reload()
    expect(summary).to_contain_text("1 failed now")
    page.get_by_role("searchbox").fill("BANK declined")
    expect(error(page)).to_have_count(1)
    # What words select is retried one by one.
    expect(page.get_by_role("button", name="Retry all of these")).to_be_disabled()
    page.get_by_role("searchbox").fill("no such words")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    expect(page.get_by_role("button", name="Retry all of these")).to_be_disabled()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Most frequent").click()
    page.get_by_role("button", name="7 days").click()
    expect(error(page)).to_have_count(1)
    expect(page.get_by_role("button", name="Retry all of these")).to_be_enabled()


def test_without_failures_nothing_can_be_retried(page: Page, url: str) -> None:
    page.goto("/dashboard#/dead?type=order.refund")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    expect(page.get_by_role("heading", name="Errors")).to_be_visible()
    expect(page.get_by_role("button", name="Retry all of these")).to_be_disabled()


def test_a_type_says_how_its_tasks_do(page: Page, api: httpx.Client) -> None:
    submit(api, 2, queue="fourth")
    page.goto("/dashboard#/types")
    row = page.locator('tr[data-type="card.charge"]')
    expect(row).to_contain_text("Charge a card")
    expect(row.locator(".bad")).to_have_text(re.compile("^[1-9]"))
    page.get_by_role("searchbox").fill("refund")
    expect(row).to_have_count(0)
    expect(page.locator('tr[data-type="order.refund"]')).to_be_visible()
    page.get_by_role("searchbox").fill("")
    row.get_by_role("link", name="card.charge").click()
    expect(page).to_have_url(re.compile("#/types/card.charge$"))
    expect(page.locator(".type-head")).to_contain_text("group payments")
    expect(page.locator(".counter", has_text="Failed")).to_contain_text("%")
    slowest = page.locator(".card", has=page.get_by_role("heading", name="Slowest"))
    expect(slowest.locator("tr").first).to_contain_text("failed")
    failures = page.locator(".card", has=page.get_by_role("heading", name="Last failures"))
    expect(failures).to_contain_text("the bank declined the card")
    expect(page.locator(".card", has=page.get_by_role("heading", name="Payload schema"))).to_contain_text('"amount"')
    page.get_by_role("button", name="1 hour").click()
    expect(page.get_by_role("img", name="Tasks ended").locator("rect.bad").first).to_be_visible()
    failures.get_by_role("link", name="All errors").click()
    expect(error(page)).to_have_count(1)


def test_a_type_that_only_the_history_knows_has_a_page(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/types/gone.for.good")
    expect(page.get_by_text("No worker announces this type")).to_be_visible()
    expect(page.get_by_text("Nothing ended in this time")).to_be_visible()


def test_the_overview_has_the_types_and_its_charts_lead_to_tasks(page: Page, api: httpx.Client) -> None:
    submit(api, 2, queue="fifth")
    asked: list[str] = []
    # What it asks later, now and then, is for the newest buckets alone.
    whole = re.compile("/api/v1/stats.*by=")
    page.on("request", lambda request: asked.append(request.url) if whole.search(request.url) else None)
    page.goto("/dashboard#/overview")
    types = page.locator(".card", has=page.get_by_role("heading", name="By type"))
    expect(types.locator('tr[data-type="card.charge"] .bad')).to_be_visible()
    assert len(asked) == 1, "one question for all charts"
    expect(page.locator(".counter", has_text="Failed, last 1 h").locator(".value")).to_have_text(re.compile("^[1-9]"))
    errors = page.locator(".card", has=page.get_by_role("heading", name="Last errors"))
    expect(errors).to_contain_text("the bank declined the card")
    chart = page.locator(".chart-card", has=page.get_by_role("heading", name="Tasks ended"))
    chart.get_by_role("button", name="Group").click()
    expect(chart.locator(".legend").get_by_role("link", name="fifth")).to_have_attribute("href", "#/tasks?queue=fifth")
    chart.get_by_role("button", name="Type").click()
    expect(chart.locator(".legend").get_by_role("link", name="card.charge")).to_be_visible()
    chart.locator("rect").last.click()
    expect(page).to_have_url(re.compile("#/tasks\\?q=finished_after"))
    expect(page.locator(".list .row").first).to_be_visible()


def test_badges_of_the_menu_say_what_they_count(page: Page, url: str) -> None:
    page.goto("/dashboard#/overview")
    menu = page.get_by_role("navigation", name="Main")
    expect(menu.get_by_role("link", name=re.compile("^Groups")).locator(".count")).to_have_attribute(
        "title", re.compile("^[0-9]+ groups?$")
    )
    expect(menu.get_by_role("link", name=re.compile("^Workers")).locator(".count")).to_have_attribute(
        "title", re.compile("online$")
    )


def test_the_pages_speak_chinese(browser: Browser, url: str) -> None:
    with watched_page(browser, url, locale="zh-CN") as page:
        for path, heading in (("overview", "概览"), ("errors", "错误"), ("types", "任务类型")):
            page.goto(f"/dashboard#/{path}")
            expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
