"""The worker in the browser, by which a person answers tasks."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.running_up import RunningUp

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RunningUp(tmp_path_factory.mktemp("test-worker") / "data") as up:
        asyncio.run(up.ready())
        yield up.run_json["http"]
        asyncio.run(up.stop())


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def connect(page: Page, group: str) -> None:
    page.goto("/test-worker")
    page.get_by_label("Group").fill(group)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator(".title .status")).to_have_text("connected")


def record(http: httpx.Client, task_id: str) -> dict[str, object]:
    """Wait for a task's end, as a client does."""
    for _ in range(600):
        found: dict[str, object] = http.get(f"/api/v1/tasks/{task_id}").json()
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        threading.Event().wait(0.05)
    raise AssertionError(f"{task_id} did not end within 30 s")


def progress_message(http: httpx.Client, task_id: str) -> object:
    """Wait for a message that a worker has sent with its progress."""
    for _ in range(600):
        progress = http.get(f"/api/v1/tasks/{task_id}").json()["progress"] or {}
        if progress.get("message"):
            return progress["message"]
        threading.Event().wait(0.05)
    raise AssertionError(f"no message of {task_id} within 30 s")


def test_a_person_answers_who_waits(page: Page, http: httpx.Client) -> None:
    connect(page, "by-hand")
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(http.post, "/api/openai", json={"group": "by-hand", "data": {"moons": "Mars"}})
        task = page.locator(".task:not(.ended)")
        expect(task).to_contain_text('"moons": "Mars"')
        task.get_by_role("slider", name="Progress").fill("60")
        expect(page.locator(".log")).to_contain_text("progress")
        task.get_by_label("Result, as JSON").fill("no json")
        task.get_by_role("button", name="Complete").click()
        expect(page.locator(".note")).to_contain_text("is not JSON")
        task.get_by_label("Result, as JSON").fill('{"names": ["Phobos", "Deimos"]}')
        task.get_by_role("button", name="Complete").click()
        answer = waiting.result(30).json()
    assert answer["result"] == {"names": ["Phobos", "Deimos"]}
    assert http.get(f"/api/v1/tasks/{answer['taskId']}").json()["progress"]["percentage"] == 60
    expect(page.locator(".task.ended .status")).to_have_text("completed")
    page.locator(".log summary", has_text="task_complete").click()
    expect(page.locator(".log details[open]")).to_contain_text("Phobos")


def test_a_person_fails_a_task_and_sees_one_taken_back(page: Page, http: httpx.Client) -> None:
    connect(page, "by-hand-too")
    ids = []
    for _ in range(2):
        body = {"type": "remote", "queue": "by-hand-too", "payload": {"data": {}}, "max_retries": 3}
        ids.append(http.post("/api/v1/tasks", json=body).json()["task_id"])
    task = page.locator(".task:not(.ended)")
    task.get_by_label("Error").fill("no such moon")
    task.get_by_label("Another attempt may help").uncheck()
    task.get_by_role("button", name="Fail").click()
    failed = record(http, ids[0])
    assert failed["error"] == {"code": "by_hand", "message": "no such moon", "retryable": False}
    expect(page.locator(f"[aria-label='Task {ids[1]}']")).to_be_visible()
    http.post(f"/api/v1/tasks/{ids[1]}/cancel")
    expect(page.locator(f"[aria-label='Task {ids[1]}'] .status")).to_have_text(re.compile("taken back"))
    page.get_by_role("button", name="Disconnect").click()
    expect(page.locator(".title .status")).to_have_text("not connected")


def test_it_gives_itself_a_task_and_fits_a_phone_in_the_dark(browser: Browser, url: str) -> None:
    with watched_page(browser, url, viewport={"width": 360, "height": 740}, color_scheme="dark") as page:
        connect(page, "alone")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.get_by_label("Answer automatically").check()
        page.get_by_role("button", name="Submit").click()
        expect(page.locator(".log summary", has_text="task_complete")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_person_answers_as_a_model_part_by_part(page: Page, http: httpx.Client, url: str) -> None:
    page.goto("/test-worker")
    page.get_by_label("Models").fill("ada, grace")
    page.get_by_label("Tasks at once").fill("2")
    page.get_by_label("Group").fill("chats")
    page.get_by_role("button", name="Connect").click()
    expect(page.locator(".title .status")).to_have_text("connected")
    with ThreadPoolExecutor(1) as caller:
        body = {
            "model": "grace", "stream": True, "group": "chats", "messages": [{"role": "user", "content": "Moons?"}],
        }  # fmt: skip
        waiting = caller.submit(http.post, "/v1/chat/completions", json=body)
        task = page.locator(".task:not(.ended)")
        expect(task).to_contain_text("Moons?")
        expect(task.locator(".chip")).to_have_text("grace")
        task.get_by_label("Progress message").fill("I remember")
        task.get_by_label("Progress message").press("Tab")
        for part in ("Pho", "bos"):
            task.get_by_label("Part of the result").fill(part)
            task.get_by_role("button", name="Send part").click()
        expect(task.get_by_label("Result, as JSON")).to_have_value('"Phobos"')
        task_id = str(task.get_attribute("aria-label")).removeprefix("Task ")
        assert progress_message(http, task_id) == "I remember"
        task.get_by_role("button", name="Complete").click()
        lines = [line[6:] for line in waiting.result(30).text.splitlines() if line.startswith("data: {")]
    said = [json.loads(line)["choices"][0]["delta"].get("content") for line in lines]
    assert "".join(filter(None, said)) == "Phobos"
    page.get_by_label("Data, as JSON").fill('{"moons": 2}')
    for _ in range(2):
        page.get_by_role("button", name="Submit").click()
    expect(page.locator(".task:not(.ended)", has_text='"moons": 2')).to_have_count(2)
    assert page.locator(".log li").count() > 3
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".log li")).to_have_count(0)


def test_the_test_worker_has_the_switches_of_the_dashboard_and_takes_a_token(page: Page, url: str) -> None:
    page.goto("/test-worker")
    theme = page.locator("html").get_attribute("data-theme")
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", str(theme))
    languages = page.get_by_role("group", name="Language")
    languages.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", re.compile("zh"))
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_label("Group").fill("tokens")
    page.get_by_label("Token").fill(" a-server-without-sign-in-wants-none ")
    page.get_by_role("button", name="Connect").click()
    expect(page.locator(".title .status")).to_have_text("connected")
    page.get_by_role("link", name="Dashboard").click()
    expect(page).to_have_url(re.compile("/dashboard"))
