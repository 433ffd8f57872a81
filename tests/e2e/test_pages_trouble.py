"""Pages that are open while something dies: they say so, and go on by themselves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.command_line import REPOSITORY
from tests.kit.up.browser import running_browser, watched_page
from tests.kit.up.running_up import RunningUp

#: What the browser says of a server that is away.
AWAY = "ERR_|status of 503"

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    folder = tmp_path_factory.mktemp("trouble")
    config = folder / "celeriac.yaml"
    config.write_text("imports: [tests.kit.up.pages_types]\n")
    with RunningUp(folder / "data", "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY)) as running:
        asyncio.run(running.ready())
        yield running
        asyncio.run(running.stop())


@pytest.fixture(scope="module")
def browser(up: RunningUp) -> Iterator[Browser]:
    with running_browser() as started:
        yield started


@pytest.fixture
def page(browser: Browser, up: RunningUp) -> Iterator[Page]:
    with watched_page(browser, up.run_json["http"], expected=AWAY) as opened:
        yield opened


@pytest.fixture
def api(up: RunningUp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{up.run_json['http']}/api/v1/", timeout=30) as client:
        yield client


#: Whether the browser has the list of tasks with all that it imports. The page's policy forbids waiting for a function.
LOADED = """
() => ["views/tasks.js", "tasklist.js", "selection.js", "suggestions.js", "query.js", "table.js"].every((script) =>
  performance.getEntriesByType("resource").some(({ name, responseEnd }) => responseEnd && name.endsWith(`/${script}`)))
"""


def report(api: httpx.Client, pages: int, **more: Any) -> str:
    """Submit a report that takes some seconds; returns its id."""
    payload = {"customer": 7, "pause_s": 0.5, "pages": pages}
    return str(api.post("tasks", json={"type": "report.render", "payload": payload, **more}).json()["task_id"])


def watched_report(page: Page, api: httpx.Client, pages: int) -> None:
    """Open the page of a report, and let it begin then: its group, which a first task makes known, is held back."""
    report(api, 1, queue="watched")
    assert api.post("groups/watched/pause", json={}).is_success
    page.goto(f"/dashboard#/tasks/{report(api, pages, queue='watched')}")
    expect(page.locator(".task-head .status")).to_have_text("pending")
    assert api.post("groups/watched/resume").is_success


@contextmanager
def without_restarts(up: RunningUp) -> Iterator[None]:
    """Stop what starts dead processes again: who is slow sees as well that one is away."""
    up.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        up.process.send_signal(signal.SIGCONT)


def test_a_task_is_watched_to_its_end_across_a_restart_of_the_api(page: Page, api: httpx.Client, up: RunningUp) -> None:
    watched_report(page, api, pages=30)
    bar = page.get_by_role("progressbar", name="progress of the task")
    expect(bar).to_have_attribute("aria-valuenow", re.compile("^[1-9]"))
    link = page.locator(".link-state")
    with without_restarts(up):
        up.kill("api")
        expect(link).to_have_attribute("data-state", "lost")
    expect(link).to_have_attribute("data-state", "live")
    expect(page.locator(".task-head .status")).to_have_text("completed")
    # The first report of the stage and the latest one show once, whatever was heard before and meanwhile.
    page.get_by_text("All events with exact times").click()
    expect(page.locator(".events-table")).to_contain_text("page 30 of 30")
    told = page.locator('.events-table tr[data-kind="progress"] td:first-child').all_text_contents()
    assert [text.rpartition(" · ")[2] for text in told] == ["page 30 of 30", "page 1 of 30"]


def test_what_could_not_be_shown_is_shown_once_the_api_is_back(page: Page, api: httpx.Client, up: RunningUp) -> None:
    report(api, pages=1)
    page.goto("/dashboard#/overview")
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    # The other views are loaded when the browser is idle.
    while not page.evaluate(LOADED):
        page.wait_for_timeout(50)
    with without_restarts(up):
        up.kill("api")
        # A view that was never open before: the page has it already.
        page.locator("#nav a[data-path=tasks]").click()
        expect(page.get_by_text("The list cannot be read")).to_be_visible()
    expect(page.locator(".list .row").first).to_be_visible()


def test_a_store_that_does_not_answer_is_told_and_its_return_too(page: Page, up: RunningUp) -> None:
    page.goto("/dashboard#/overview")
    link = page.locator(".link-state")
    expect(link).to_have_attribute("data-state", "live")
    store = up.pid("valkey-server")
    os.kill(store, signal.SIGSTOP)
    try:
        expect(link).to_have_text("Store does not answer")
    finally:
        os.kill(store, signal.SIGCONT)
    expect(link).to_have_text("Live")


def test_a_store_that_is_killed_loses_nothing_that_the_page_shows(page: Page, api: httpx.Client, up: RunningUp) -> None:
    watched_report(page, api, pages=40)
    expect(page.locator(".progress-line")).to_contain_text(re.compile("page [0-9]+ of 40"))
    up.kill("valkey-server")
    expect(page.locator(".task-head .status")).to_have_text("completed", timeout=60_000)
    expect(page.locator(".card", has=page.get_by_role("heading", name="Result"))).to_contain_text('"pages": 40')
