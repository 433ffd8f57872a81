"""Ways between pages: a task's definition, a new task of a type, the palette's retry, titles in the search."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("ways")) as address:
        yield address


def test_an_instance_names_its_definition_and_leads_to_it(page: Page, api: httpx.Client) -> None:
    wanted = {
        "name": "mail of the night",
        "user_id": 7,
        "task": {"type": "mail.send", "payload": {"to": "ada@example.org"}},
        "trigger_type": "LOOP",
        "trigger_args": {"cron": "0 3 * * *"},
    }
    made = api.post("definitions", json=wanted)
    assert made.status_code == 201, made.text
    definition = made.json()["task_def_id"]
    task_id = api.post(f"definitions/{definition}/trigger").json()["task_id"]
    page.goto(f"/dashboard#/tasks/{task_id}")
    page.locator(".facts").get_by_role("link", name="mail of the night").click()
    expect(page).to_have_url(re.compile(f"#/definitions/{definition}$"))


def test_a_new_task_begins_with_the_type_of_the_page(page: Page) -> None:
    page.goto("/dashboard#/types/report.render")
    page.get_by_role("button", name="New task").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("select").first).to_have_value("report.render")


def test_the_palette_retries_what_failed_after_the_exact_number(page: Page, api: httpx.Client) -> None:
    submission = {"type": "card.charge", "payload": {"amount": 7, "card": "4000"}}
    ids = [api.post("tasks", json=submission).json()["task_id"] for _ in range(2)]
    for task_id in ids:
        assert api.get(f"tasks/{task_id}", params={"wait": 20}).json()["status"] == "failed"
    page.goto("/dashboard#/errors")
    expect(page.get_by_role("button", name="Retry 2")).to_be_visible()
    page.goto("/dashboard#/groups")
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Go to or do")).to_be_focused()
    page.keyboard.insert_text("retry failed")
    expect(page.locator("#palette-0")).to_contain_text("Retry")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Retry 2 tasks?")
    # A reader who goes back or reloads is not asked again.
    expect(page).to_have_url(re.compile("#/errors$"))
    dialog.get_by_role("button", name="Retry 2").click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    for task_id in ids:
        assert api.get(f"tasks/{task_id}", params={"wait": 20}).json()["attempt"] == 2


def test_the_search_finds_words_of_titles(page: Page, api: httpx.Client) -> None:
    for to in ("grace@example.org", "linus@example.org"):
        task_id = api.post("tasks", json={"type": "mail.send", "payload": {"to": to}}).json()["task_id"]
        api.get(f"tasks/{task_id}", params={"wait": 20})
    page.goto("/dashboard#/tasks")
    search = page.get_by_role("combobox", name=re.compile("earch"))
    search.fill("title:GRACE")
    rows = page.locator(".tasks .row")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("grace@example.org")


def test_a_task_that_runs_again_and_its_original_name_each_other(page: Page, api: httpx.Client) -> None:
    task_id = api.post("tasks", json={"type": "mail.send", "payload": {"to": "ada@example.org"}}).json()["task_id"]
    api.get(f"tasks/{task_id}", params={"wait": 20})
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(page.locator(".task-head .status")).to_have_text("completed")
    # A key does it too.
    page.keyboard.press("r")
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    expect(page).not_to_have_url(re.compile(task_id))
    facts = page.locator(".facts")
    copy = page.url.rpartition("/")[2]
    expect(page.locator(".task-head .status")).to_have_text("completed")
    original = facts.locator("div", has_text="Copy of").get_by_role("link")
    expect(original).to_have_attribute("title", task_id)

    def recorded() -> bool:
        found = api.get("tasks", params={"q": f'"{task_id}"'}).json()["items"]
        return {one["task_id"] for one in found} == {task_id, copy}

    for _ in range(200):
        if recorded():
            break
        page.wait_for_timeout(100)
    original.click()
    made = facts.locator("div", has_text="Run again as").get_by_role("link")
    expect(made).to_have_attribute("title", copy)
    expect(facts.locator("div", has_text="Run again as")).to_contain_text("completed")


def test_a_paused_group_is_resumed_where_its_task_says_why_it_waits(page: Page, api: httpx.Client) -> None:
    api.post("groups/mail/pause", json={"note": "quota"})
    task_id = api.post("tasks", json={"type": "mail.send", "payload": {"to": "ada@example.org"}}).json()["task_id"]
    page.goto(f"/dashboard#/tasks/{task_id}")
    line = page.locator(".why li[data-code=paused]")
    expect(line).to_contain_text("quota")
    line.get_by_role("button", name="Resume").click()
    expect(page.locator(".task-head .status")).to_have_text("completed")
    # It has ended: a key that would cancel it does nothing.
    page.keyboard.press("c")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_definition_shows_the_payload_of_its_task_and_its_own_time(page: Page, api: httpx.Client) -> None:
    wanted = {
        "name": "in Tokyo",
        "user_id": 7,
        "task": {"type": "mail.send", "payload": {"to": "tokyo@example.org"}},
        "trigger_type": "LOOP",
        "trigger_args": {"cron": "0 3 * * *", "timezone": "Asia/Tokyo"},
    }
    definition = api.post("definitions", json=wanted).json()["task_def_id"]
    page.goto(f"/dashboard#/definitions/{definition}")
    expect(page.get_by_role("heading", name="Payload")).to_be_visible()
    expect(page.locator(".code")).to_contain_text("tokyo@example.org")
    expect(page.locator(".calendar li").first).to_contain_text("03:00 Asia/Tokyo")
    page.get_by_role("button", name="Actions of in Tokyo").click()
    page.get_by_role("button", name="Edit").click()
    form = page.get_by_role("dialog")
    payload = form.get_by_label("Payload, as JSON")
    expect(payload).to_have_value('{\n  "to": "tokyo@example.org"\n}')
    payload.fill("{")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("not JSON")
    payload.fill('{"to": "osaka@example.org"}')
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    expect(page.locator(".code").first).to_contain_text("osaka@example.org")
    kept = api.get(f"definitions/{definition}").json()
    assert kept["task"] == {"type": "mail.send", "payload": {"to": "osaka@example.org"}}
    assert kept["trigger_args"]["timezone"] == "Asia/Tokyo"
    page.locator(".facts").get_by_role("link", name="mail.send").click()
    expect(page).to_have_url(re.compile("#/types/mail.send$"))


def test_conditions_of_the_search_are_chips_that_a_click_removes(page: Page, api: httpx.Client) -> None:
    task_id = api.post("tasks", json={"type": "mail.send", "payload": {"to": "ada@example.org"}}).json()["task_id"]
    api.get(f"tasks/{task_id}", params={"wait": 20})
    page.goto("/dashboard#/tasks?error_group=0123456789abcdef&q=type:mail.send -status:failed ada")
    chips = page.get_by_role("list", name="Conditions").get_by_role("button")
    expect(chips).to_have_text(["failures like 01234567×", "type:mail.send×", "-status:failed×"])
    page.get_by_role("button", name="Remove failures like 01234567").click()
    search = page.get_by_role("combobox", name="Search")
    expect(search).to_be_focused()
    page.get_by_role("button", name="Remove type:mail.send").click()
    expect(search).to_have_value("-status:failed ada")
    expect(page).to_have_url(re.compile(r"#/tasks\?q=-status%3Afailed\+ada$"))
    expect(chips).to_have_text(["-status:failed×"])
    expect(page.locator(".tasks .row").first).to_be_visible()
    page.get_by_role("button", name="Remove -status:failed").click()
    expect(page.get_by_role("list", name="Conditions")).to_be_hidden()
    expect(search).to_have_value("ada")
