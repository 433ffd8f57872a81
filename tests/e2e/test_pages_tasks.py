"""The list of tasks in a real browser: what rows say, counts, the histogram, the search field, and acting on many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("tasks")) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    options: dict[str, Any] = {"permissions": ["clipboard-read", "clipboard-write"]}
    with watched_page(browser, url, expected="status of 422", **options) as opened:
        yield opened


def submit(api: httpx.Client, type: str, payload: dict[str, Any], **more: Any) -> str:
    """Submit a task; returns its id."""
    answer = api.post("tasks", json={"type": type, "payload": payload, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def later(api: httpx.Client, tag: str, number: int) -> list[str]:
    """Submit tasks that wait for a time."""
    return [submit(api, "mail.send", {"to": f"{n}@example.org"}, tags=[tag], delay="1h") for n in range(number)]


def rows(page: Page) -> Locator:
    return page.locator(".list .row")


def row(page: Page, task_id: str) -> Locator:
    return page.locator(f'.row[data-id="{task_id}"]')


def tab(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name="Status").get_by_role("button", name=re.compile(f"^{name}"))


def bar(page: Page) -> Locator:
    return page.get_by_role("group", name="Selected tasks")


def confirm(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name).click()


def test_rows_tell_tasks_apart(page: Page, api: httpx.Client) -> None:
    mail = submit(api, "mail.send", {"to": "ada@example.org"}, tags=["apart", "vip"], user_id="ada", key="c7")
    card = submit(api, "card.charge", {"amount": 12, "card": "4000"}, tags=["apart"])
    page.goto("/dashboard#/tasks?tag=apart")
    expect(row(page, mail).locator(".status")).to_have_text("completed")
    expect(row(page, mail).locator(".title")).to_have_text("to ada@example.org")
    expect(row(page, mail).locator(".tags")).to_have_text("apartvip")
    for name, text in (("key", "c7"), ("user", "ada"), ("group", "mail")):
        expect(row(page, mail).locator(f".c-{name}")).to_have_text(text)
    expect(row(page, card).locator(".title")).to_have_text("amount 12 · card 4000")
    expect(row(page, card).locator(".about")).to_contain_text("the bank declined the card")
    assert int(row(page, mail).evaluate("(row) => row.offsetHeight")) == 34


def test_the_first_page_is_read_once_and_lacks_nothing(page: Page, api: httpx.Client) -> None:
    lists: list[str] = []
    page.on("request", lambda request: lists.append(request.url) if "/api/v1/tasks?" in request.url else None)
    early = submit(api, "mail.send", {"to": "early@example.org"}, tags=["once"])
    page.goto("/dashboard#/tasks?tag=once")
    # The history may not have it when the list is read.
    expect(row(page, early).locator(".status")).to_have_text("completed")
    late = submit(api, "mail.send", {"to": "late@example.org"}, tags=["once"])
    expect(row(page, late).locator(".status")).to_have_text("completed")
    expect(page.locator(".list .foot")).to_contain_text("2 tasks")
    assert len(lists) == 1, lists
    assert "payload" not in lists[0]


def test_tabs_count_and_the_histogram_chooses_a_time(page: Page, api: httpx.Client) -> None:
    later(api, "counted", 3)
    submit(api, "card.charge", {"amount": 1, "card": "4000"}, tags=["counted"])
    page.goto("/dashboard#/tasks?tag=counted")
    expect(tab(page, "All")).to_have_text("All4")
    expect(tab(page, "Scheduled")).to_have_text("Scheduled3")
    expect(tab(page, "Failed")).to_have_text("Failed1")
    expect(page.locator(".list .foot > .grow")).to_have_text("4 tasks")
    tab(page, "Scheduled").click()
    expect(page.locator(".list .foot > .grow")).to_have_text("3 tasks")
    expect(tab(page, "Failed")).to_have_text("Failed1")
    expect(page.locator('.histogram rect[data-status="scheduled"]').first).to_be_attached()
    expect(page.locator('.histogram rect[data-status="failed"]')).to_have_count(0)
    tab(page, "All").click()
    expect(page.locator('.histogram rect[data-status="failed"]')).not_to_have_count(0)
    box = page.get_by_title("Drag to choose a span of time").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20, steps=4)
    expect(page.locator(".brush")).to_be_visible()
    page.mouse.up()
    expect(page).to_have_url(re.compile("created_after=.*created_before="))
    expect(rows(page)).to_have_count(4)
    expect(page.get_by_label("Submitted")).to_have_value("chosen")
    page.get_by_label("Submitted").select_option("Any time")
    expect(page).not_to_have_url(re.compile("created_"))
    expect(tab(page, "All")).to_have_text("All4")


def test_rows_are_selected_by_key_click_and_range_and_cancelled(page: Page, api: httpx.Client) -> None:
    ids = later(api, "chosen", 5)
    page.goto("/dashboard#/tasks?tag=chosen")
    expect(rows(page)).to_have_count(5)
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(bar(page)).to_contain_text("1 selected")
    expect(bar(page).get_by_role("button", name="Retry")).to_be_disabled()
    row(page, ids[2]).click(modifiers=["Shift"])
    expect(bar(page)).to_contain_text("3 selected")
    row(page, ids[2]).locator(".mark").click()
    expect(bar(page)).to_contain_text("2 selected")
    expect(page.locator('.row[aria-selected="true"]')).to_have_count(2)
    bar(page).get_by_role("button", name="Copy ids").click()
    expect(page.locator("#notes")).to_contain_text("2 ids copied")
    assert set(page.evaluate("navigator.clipboard.readText()").split()) == {ids[3], ids[4]}
    bar(page).get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel 2 tasks")
    for task_id in ids[3:]:
        expect(row(page, task_id).locator(".status")).to_have_text("cancelled")
    assert api.get(f"tasks/{ids[0]}").json()["status"] == "scheduled"
    page.keyboard.press("Escape")
    expect(bar(page)).to_be_hidden()
    page.get_by_label("Select the loaded tasks").check()
    expect(bar(page)).to_contain_text("5 selected")


def test_all_that_match_are_cancelled_and_retried(page: Page, api: httpx.Client) -> None:
    later(api, "matching", 4)
    page.goto("/dashboard#/tasks?tag=matching")
    expect(rows(page)).to_have_count(4)
    page.keyboard.press("j")
    page.keyboard.press("x")
    bar(page).get_by_role("button", name="Select all 4 that match").click()
    expect(bar(page)).to_contain_text("All 4 that match are selected")
    expect(bar(page).get_by_role("button", name="Run again")).to_be_hidden()
    bar(page).get_by_role("button", name="Copy ids").click()
    expect(page.locator("#notes")).to_contain_text("4 ids copied")
    bar(page).get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel 4 tasks")
    expect(page.locator("#notes").get_by_role("link", name="Watch it")).to_be_visible()
    expect(tab(page, "Cancelled")).to_have_text("Cancelled4")
    bar(page).get_by_role("button", name="Clear").click()
    tab(page, "Cancelled").click()
    expect(rows(page)).to_have_count(4)
    page.keyboard.press("j")
    page.keyboard.press("x")
    bar(page).get_by_role("button", name="Select all 4 that match").click()
    page.keyboard.press("r")
    confirm(page, "Retry 4")
    expect(page.get_by_text("No task matches")).to_be_visible()
    tab(page, "Completed").click()
    expect(rows(page)).to_have_count(4)


def test_keys_act_on_the_current_row(page: Page, api: httpx.Client) -> None:
    (task_id,) = later(api, "keyed", 1)
    page.goto("/dashboard#/tasks?tag=keyed")
    expect(rows(page)).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("y")
    expect(page.locator("#notes")).to_contain_text("Id copied")
    assert page.evaluate("navigator.clipboard.readText()") == task_id
    page.keyboard.press("r")
    expect(page.locator("#notes")).to_contain_text("only failed and cancelled tasks can")
    page.keyboard.press("c")
    page.get_by_role("button", name="Keep as it is").click()
    page.keyboard.press("c")
    confirm(page, "Cancel task")
    expect(row(page, task_id).locator(".status")).to_have_text("cancelled")
    page.keyboard.press("r")
    confirm(page, "Retry 1")
    expect(row(page, task_id).locator(".status")).to_have_text("completed")
    # After `g` a letter names a page.
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Requests")).to_be_visible()


def test_ended_tasks_run_again(page: Page, api: httpx.Client) -> None:
    for n in range(2):
        submit(api, "mail.send", {"to": f"{n}@example.org"}, tags=["repeated"], key="c9")
    page.goto("/dashboard#/tasks?tag=repeated&status=completed")
    expect(rows(page)).to_have_count(2)
    page.get_by_label("Select the loaded tasks").check()
    bar(page).get_by_role("button", name="Run again").click()
    confirm(page, "Submit 2")
    expect(rows(page)).to_have_count(4)
    expect(page.locator(".row .c-key")).to_have_text(["c9"] * 4)


def test_a_task_is_duplicated_in_the_form_for_a_new_one(page: Page, api: httpx.Client) -> None:
    like = submit(api, "report.render", {"customer": 3, "pages": 2}, tags=["doubled"], key="c3")
    page.goto(f"/dashboard#/tasks?new={like}")
    form = page.get_by_role("dialog", name="Run again")
    payload = form.get_by_role("textbox", name="Payload")
    expect(payload).to_have_value(re.compile('"customer": 3'))
    expect(form.get_by_label("Tags")).to_have_value("doubled")
    form.get_by_role("button", name="Form").click()
    expect(form.get_by_label("Customer", exact=True)).to_have_value("3")
    form.get_by_label("Pages (optional)").fill("many")
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_contain_text("Pages: many is not a number")
    form.get_by_label("Pages (optional)").fill("4")
    form.get_by_role("button", name="JSON").click()
    expect(payload).to_have_value(re.compile('"pages": 4'))
    form.get_by_role("button", name="celeriac").click()
    expect(page.locator("#notes")).to_contain_text("Command copied")
    assert "celeriac submit report.render" in page.evaluate("navigator.clipboard.readText()")
    form.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("#/tasks/[0-9a-f-]{36}$"))
    made = api.get(f"tasks/{page.url.rpartition('/')[2]}").json()
    assert (made["payload"]["pages"], made["key"], made["tags"]) == (4, "c3", ["doubled"])


def test_the_search_field_suggests_and_says_what_is_wrong(page: Page, api: httpx.Client) -> None:
    declined = submit(api, "card.charge", {"amount": 1, "card": "4000"}, tags=["sought"])
    submit(api, "mail.send", {"to": "ada@example.org"}, tags=["sought"])
    page.goto("/dashboard#/tasks?tag=sought")
    expect(rows(page)).to_have_count(2)
    search = page.get_by_label("Search")
    search.press_sequentially("sta")
    options = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    expect(options).to_have_count(1)
    search.press("ArrowDown")
    search.press("Enter")
    expect(search).to_have_value("status:")
    options.filter(has_text="failed").click()
    expect(search).to_have_value("status:failed ")
    expect(rows(page)).to_have_count(1)
    expect(row(page, declined)).to_be_visible()
    expect(page).to_have_url(re.compile("q=status%3Afailed"))
    search.fill("status:fialed")
    expect(page.locator("#search-trouble")).to_contain_text("fialed")
    expect(rows(page)).to_have_count(1)
    search.fill("nothingofthesort")
    expect(page.locator("#search-trouble")).to_be_hidden()
    expect(page.locator(".list .empty")).to_contain_text("The search looks at")


def test_filters_fold_on_a_phone(browser: Browser, url: str, api: httpx.Client) -> None:
    submit(api, "mail.send", {"to": "ada@example.org"}, tags=["phone"])
    options: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "locale": "zh-CN"}
    with watched_page(browser, url, **options) as page:
        page.goto("/dashboard#/tasks?tag=phone")
        expect(rows(page)).to_have_count(1)
        expect(page.get_by_label("类型")).to_be_hidden()
        page.get_by_role("button", name="筛选（1）").click()
        page.get_by_label("类型").select_option("card.charge")
        expect(page.get_by_text("没有匹配的任务")).to_be_visible()
