"""The command palette: everything is reached and done from one field, by the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("palette")) as address:
        yield address


def begin(page: Page) -> None:
    """Open the palette once the page has its live state."""
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Go to or do")).to_be_focused()


def chosen(page: Page) -> str:
    """The text of the option that Enter takes, as screen readers find it."""
    field = page.get_by_role("combobox", name="Go to or do")
    option = page.locator(f"#{field.get_attribute('aria-activedescendant')}")
    expect(option).to_have_attribute("aria-selected", "true")
    return option.inner_text()


def write(page: Page, words: str, wanted: str) -> None:
    """Write words and wait until the first option is the wanted one."""
    page.keyboard.insert_text(words)
    expect(page.locator("#palette-0")).to_contain_text(wanted)


def test_a_pasted_id_or_its_beginning_leads_to_the_task(page: Page, api: httpx.Client) -> None:
    answer = api.post("tasks", json={"type": "mail.send", "payload": {"to": "ada@example.org"}})
    task_id = answer.json()["task_id"]
    for words in (task_id, task_id[:8]):
        page.goto("/dashboard#/groups")
        begin(page)
        write(page, words, f"mail.send {task_id}")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"#/tasks/{task_id}$"))


def test_letters_in_their_order_find_pages_types_groups_workflows_and_definitions(
    page: Page, api: httpx.Client
) -> None:
    nodes = {"one": {"type": "mail.send", "payload": {"to": "ada@example.org"}}}
    workflow = api.post("workflows", json={"name": "quarterly figures", "nodes": nodes}).json()["workflow_id"]
    task = {"type": "mail.send", "payload": {"to": "ada@example.org"}}
    made = api.post(
        "definitions",
        json={
            "user_id": "ada",
            "name": "nightly greeting",
            "trigger_type": "LOOP",
            "trigger_args": {"interval": 86400},
            "task": task,
        },
    )
    assert made.status_code < 300, made.text
    for words, wanted, address in (
        ("lmts", "Limits", "#/limits"),
        ("crdchg", "card.charge", "#/types/card.charge"),
        ("payments", "payments", r"#/tasks\?queue=payments"),
        ("quarterly", "quarterly figures", f"#/workflows/{workflow}"),
        ("nightly", "nightly greeting", "#/definitions/"),
        ("no such thing", "Search the tasks for: no such thing", r"#/tasks\?q=no"),
    ):
        page.goto("/dashboard#/waits")
        begin(page)
        write(page, words, wanted)
        assert wanted in chosen(page)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(address))


def test_arrows_go_around_and_escape_closes(page: Page) -> None:
    page.goto("/dashboard#/waits")
    begin(page)
    first = chosen(page)
    page.keyboard.press("ArrowUp")
    assert chosen(page) != first
    page.keyboard.press("ArrowDown")
    assert chosen(page) == first
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_actions_run_from_the_palette(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/waits")
    begin(page)
    write(page, "times utc", "Times: UTC")
    page.keyboard.press("Enter")
    expect(page.locator(".zone")).to_have_text("UTC")
    begin(page)
    write(page, "pause reports", "Pause the group reports")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Pause reports?")).to_be_visible()
    page.keyboard.insert_text("the printer is away")
    page.keyboard.press("Enter")
    expect(page.locator(".note")).to_contain_text("reports is paused")
    assert api.get("groups/reports").json()["paused"]["note"] == "the printer is away"
    page.reload()
    begin(page)
    write(page, "resume reports", "Resume the group reports")
    page.keyboard.press("Enter")
    expect(page.locator(".note")).to_contain_text("reports is resumed")
    assert api.get("groups/reports").json()["paused"] is None
    begin(page)
    write(page, "new task", "New task")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_another_language_is_chosen_and_stays(page: Page) -> None:
    page.goto("/dashboard#/waits")
    begin(page)
    write(page, "中文", "Language: 中文")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_the_palette_fits_a_phone(browser: Browser, url: str) -> None:
    with watched_page(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        page.goto("/dashboard#/waits")
        page.get_by_role("button", name="Go to or do").click()
        expect(page.locator(".palette")).to_be_visible()
        inside = page.evaluate("""() => {
            const box = document.querySelector("dialog").getBoundingClientRect();
            return box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
        }""")
        assert inside
