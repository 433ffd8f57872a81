"""The page of one task: where its time went, its log, its values, and every action on it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.command_line import REPOSITORY
from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

#: More elements than this cost a browser time with each change.
MOST_NODES = 1500
NODES = "document.querySelectorAll('*').length"

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pages_platform(tmp_path_factory.mktemp("task"), "tests.kit.up.task_page_types") as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with watched_page(browser, url, permissions=["clipboard-read", "clipboard-write"]) as opened:
        yield opened


def submit(api: httpx.Client, type: str, payload: dict[str, Any], **more: Any) -> str:
    answer = api.post("tasks", json={"type": type, "payload": payload, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def show(page: Page, task_id: str, status: str | None = None) -> None:
    """Open the page of a task, and wait until it has a status."""
    page.goto(f"/dashboard#/tasks/{task_id}")
    if status is not None:
        expect(badge(page)).to_have_text(status)


def badge(page: Page) -> Any:
    return page.locator(".task-head .status")


def action(page: Page, name: str) -> Any:
    return page.locator(".task-head").get_by_role("button", name=name, exact=True)


def card(page: Page, heading: str) -> Any:
    return page.locator(".card", has=page.get_by_role("heading", name=heading, exact=True))


def copied(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_a_task_that_reports_and_logs_without_end_costs_a_bounded_page(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.noise", {"hold_s": 600, "steps": 40, "children": 3})
    fetched: list[int] = []
    page.on("response", lambda answer: fetched.append(len(answer.body())) if "/events?" in answer.url else None)
    show(page, task_id, "processing")
    log = page.locator(".task-log li")
    expect(log.last).to_contain_text("line number 2999")
    expect(page.locator(".wf-stage")).to_have_count(3)
    expect(page.locator(".progress-line")).to_contain_text("writing · part 2000")
    assert page.evaluate(NODES) < MOST_NODES
    assert max(fetched) < 10_000, "the reports are folded to their stages"
    # Also with all that can be opened, and with lines that were scrolled to.
    page.get_by_text("All events with exact times").click()
    expect(page.locator(".events-table tr[data-kind='progress']")).to_have_count(4)
    page.locator(".task-log").focus()
    page.keyboard.press("Home")
    expect(log.last).not_to_contain_text("line number 2999")
    for _ in range(4):
        page.locator(".task-log").evaluate("(list) => { list.scrollTop = list.scrollHeight; }")
        expect(page.locator(".task-log")).not_to_have_js_property("scrollTop", 0)
    assert page.evaluate(NODES) < MOST_NODES
    page.keyboard.press("End")
    expect(log.last).to_contain_text("line number 2999")
    # A page that is opened later does not read all reports again.
    streamed = api.get(f"tasks/{task_id}/events", params={"progress": "stages", "limit": 1000}).json()
    assert len(streamed["items"]) < 20
    api.post(f"tasks/{task_id}/cancel")
    expect(badge(page)).to_have_text("cancelled")


def test_attempts_are_bars_with_what_they_waited_and_ran(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.flaky", {"failures": 2})
    show(page, task_id, "completed")
    rows = page.locator(".wf-row")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text(re.compile(r"Attempt 1.*waited .* · ran .* · backed off "))
    expect(rows.nth(2)).to_have_attribute("data-status", "completed")
    expect(rows.nth(0).locator('[data-kind="backoff"]')).to_have_attribute("title", re.compile(r"\.\d{3}"))
    # A mark leads to the line of the log.
    rows.nth(1).locator(".wf-mark").click()
    expect(page.locator(".task-log li[aria-current]")).to_contain_text("attempt failed")
    expect(page).to_have_url(re.compile("line="))


def test_identical_tracebacks_are_folded_and_the_first_one_is_on_top(page: Page, api: httpx.Client) -> None:
    show(page, submit(api, "page.flaky", {"failures": 9}), "failed")
    expect(card(page, "Error").locator(".first-trace")).to_contain_text('raise ConnectionError("the supplier')
    same = page.locator(".same-trace")
    expect(same).to_have_count(5)
    expect(same.first).to_contain_text("Same traceback as in attempt 1")
    same.first.locator("summary").click()
    expect(same.first.locator("pre")).to_contain_text("Traceback")


def test_the_log_is_searched_filtered_wrapped_linked_and_downloaded(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.noise", {"reports": 3, "lines": 900})
    show(page, task_id, "completed")
    log = card(page, "Log")
    rows = log.locator(".task-log li")
    expect(log.get_by_role("status")).to_have_text("lines 841 to 900 of 900")
    log.get_by_role("searchbox").fill("number 12")
    expect(log.get_by_role("status")).to_have_text("11 lines")
    log.get_by_role("searchbox").fill("")
    log.get_by_role("button", name="info").click()
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("line number 500")
    log.get_by_role("button", name="info").click()
    wrap = log.get_by_role("button", name="Wrap")
    wrap.click()
    expect(wrap).to_have_attribute("aria-pressed", "false")
    rows.last.locator(".at").click()
    expect(page.get_by_text("Link to the line copied")).to_be_visible()
    link = copied(page)
    page.goto("/dashboard#/tasks")
    page.goto(link)
    expect(page.locator(".task-log li[aria-current]")).to_contain_text("line number 899")
    with page.expect_download() as download:
        log.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"{task_id}.log"
    assert len(download.value.path().read_text().splitlines()) == 900


def test_a_completed_task_runs_again_as_a_new_one(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.keep", {"value": 7}, tags=["again"], key="k-7", queue="other")
    show(page, task_id, "completed")
    action(page, "Run again").click()
    page.get_by_role("textbox", name="Payload").fill('{"value": ')
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    expect(page.get_by_role("alert")).to_contain_text("The payload is not JSON")
    page.get_by_role("textbox", name="Payload").fill('{"value": 8}')
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    expect(page).not_to_have_url(re.compile(task_id))
    expect(badge(page)).to_have_text("completed")
    made = api.get(f"tasks/{page.url.rpartition('/')[2]}").json()
    assert (made["result"], made["tags"], made["key"], made["queue"]) == (8, ["again"], "k-7", "other")
    assert api.get(f"tasks/{task_id}").json()["result"] == 7
    page.locator(".facts").get_by_role("link", name=task_id[:8]).click()
    expect(page).to_have_url(re.compile(task_id))


def test_secrets_are_written_again_before_a_task_runs_again(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.login", {"user": "ada", "password": "correct horse"})
    show(page, task_id, "completed")
    action(page, "Run again").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Run again").click()
    expect(dialog.get_by_role("alert")).to_contain_text("still has ***")
    dialog.get_by_role("textbox").fill('{"user": "ada", "password": "battery staple"}')
    dialog.get_by_role("button", name="Run again").click()
    expect(page).not_to_have_url(re.compile(task_id))
    expect(card(page, "Result")).to_contain_text("14")


@pytest.mark.parametrize(("type", "status"), [("page.keep", "scheduled"), ("page.later", "retrying")])
def test_a_task_that_waits_for_its_time_runs_now(page: Page, api: httpx.Client, type: str, status: str) -> None:
    more = {"delay": "1h"} if status == "scheduled" else {}
    payload = {"value": 1} if status == "scheduled" else {"failures": 1}
    show(page, submit(api, type, payload, **more), status)
    action(page, "Run now").click()
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    expect(badge(page)).to_have_text("completed")


def test_a_task_is_copied_as_curl_as_python_and_as_a_command(page: Page, api: httpx.Client, url: str) -> None:
    payload = {"value": {"it's": 'a "quote" $HOME', "none": None, "yes": True, "n": [1.5]}}
    task_id = submit(api, "page.keep", payload, tags=["copied"], queue="other")
    show(page, task_id, "completed")
    wanted = card(page, "Payload")
    wanted.get_by_role("button", name="curl").click()
    expect(page.get_by_text("curl command copied")).to_be_visible()
    words = shlex.split(copied(page))
    assert words[:2] == ["curl", f"{url}/api/v1/tasks"]
    body = json.loads(words[words.index("-d") + 1])
    assert (body["type"], body["payload"], body["tags"], body["queue"]) == ("page.keep", payload, ["copied"], "other")
    assert api.post("tasks", json=body).status_code == 202
    wanted.get_by_role("button", name="celeriac").click()
    expect(page.get_by_text("Command copied", exact=True)).to_be_visible()
    words = shlex.split(copied(page))
    assert words[:3] == ["celeriac", "submit", "page.keep"]
    assert json.loads(words[words.index("--payload") + 1]) == payload
    assert words[words.index("--tag") + 1] == "copied"
    wanted.get_by_role("button", name="Python").click()
    expect(page.get_by_text("Python copied")).to_be_visible()
    text = copied(page)
    compile(text, "copied", "exec")
    assert f'Client("{url}")' in text
    page.get_by_role("button", name="Copy the link").click()
    expect(page.get_by_text("Link copied")).to_be_visible()
    assert copied(page).endswith(f"#/tasks/{task_id}")


def test_a_cancelled_task_says_by_whom_and_is_no_error(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.keep", {"value": 1}, delay="1h")
    show(page, task_id, "scheduled")
    action(page, "Cancel task").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel task").click()
    said = card(page, "Cancelled")
    expect(said).to_contain_text("cancelled before it ran")
    expect(said).to_contain_text(re.compile("By local, "))
    expect(page.locator(".error-text")).to_have_count(0)


def test_a_large_value_is_a_tree_that_is_searched(page: Page, api: httpx.Client) -> None:
    orders = [{"id": n, "customer": f"customer {n}", "note": "x" * 400} for n in range(3000)]
    show(
        page,
        submit(api, "page.keep", {"value": {"orders": orders}}, metadata={"source": {"file": "a.csv"}}),
        "completed",
    )
    result = card(page, "Result")
    expect(result).to_contain_text("orders: [3,000]")
    assert page.evaluate(NODES) < MOST_NODES
    result.get_by_role("searchbox").fill("customer 2999")
    expect(result.get_by_role("status")).to_have_text("1 place")
    expect(result).to_contain_text("orders[2999].customer")
    expect(card(page, "Metadata")).to_contain_text('"file": "a.csv"')


def test_a_chat_is_shown_as_messages_with_its_tokens(page: Page, api: httpx.Client) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is <b>it</b>?"}]
    show(page, submit(api, "page.chat", {"messages": messages}), "completed")
    expect(card(page, "Payload").locator(".bubble")).to_have_text(["SystemBe brief.", "UserWhere is <b>it</b>?"])
    result = card(page, "Result")
    expect(result.locator(".bubble")).to_have_text(["AssistantYou said: Where is <b>it</b>?"])
    expect(result.locator(".tokens")).to_have_text(re.compile("12 tokens in · 34 tokens out · .* tokens/s"))
    result.get_by_text("As JSON").click()
    expect(result).to_contain_text("completion_tokens")


def test_a_picture_and_a_film_are_shown_as_such(page: Page, api: httpx.Client, tmp_path: Path) -> None:
    movie = tmp_path / "holiday.mkv"
    maker = REPOSITORY / "examples/files/make_video.py"
    subprocess.run([sys.executable, str(maker), str(movie), "--seconds", "1"], check=True, capture_output=True)

    def made(processor: str, **options: Any) -> str:
        upload = api.post("files", files={"file": ("holiday.mkv", movie.read_bytes())}).json()
        payload = {"file_id": upload["file_id"], "processor": processor, "options": options}
        return submit(api, "file_process", payload)

    expect.set_options(timeout=120_000)
    try:
        show(page, made("thumbnail"), "completed")
        picture = card(page, "Result").locator("img")
        expect(picture).not_to_have_js_property("naturalWidth", 0)
        expect(picture).to_have_attribute("alt", re.compile("thumbnail"))
        show(page, made("video", transcode={"height": 90}), "completed")
        film = card(page, "Result").locator("video")
        expect(film).to_have_attribute("controls", "")
        expect(film).not_to_have_js_property("readyState", 0)
    finally:
        expect.set_options(timeout=30_000)


def test_a_suspended_task_shows_its_steps_in_the_bar(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "page.sleep", {"value": "1h"})
    show(page, task_id, "waiting")
    expect(page.locator('.wf-row [data-kind="suspended"]')).to_have_count(1)
    expect(page.locator(".wf-part")).to_contain_text("before")
    api.post(f"tasks/{task_id}/cancel")


def test_the_page_is_chinese_for_who_reads_that(browser: Browser, url: str, api: httpx.Client) -> None:
    task_id = submit(api, "page.flaky", {"failures": 1})
    with watched_page(browser, url, locale="zh-CN") as page:
        show(page, task_id, "已完成")
        expect(page.locator(".wf-row").first).to_contain_text("第 1 次尝试")
        expect(card(page, "日志")).to_contain_text("行")
        expect(action(page, "再次运行")).to_be_visible()
