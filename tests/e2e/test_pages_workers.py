"""The page of workers: what each does and takes, and an admin drains and resumes one."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("workers")) as address:
        yield address


def test_a_worker_shows_its_figures_and_is_drained_and_resumed(page: Page, url: str) -> None:
    page.goto("/dashboard#/workers")
    card = page.locator(".worker")
    expect(card).to_have_count(1)
    expect(card.locator(".figures")).to_contain_text("ended per minute")
    expect(card.locator(".figures")).to_contain_text("MiB of memory")

    card.get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("takes no more tasks, and finishes those that it has")
    dialog.get_by_role("button", name="Drain").click()
    expect(card.locator(".status")).to_have_text("drained")
    expect(card.get_by_role("button", name="Resume")).to_be_focused()
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=20) as api:
        (worker,) = api.get("workers").json()["workers"]
        assert (worker["drainable"], worker["drained"]) == (True, True)
        # Another reader sees it too.
        page.reload()
        expect(card.locator(".status")).to_have_text("drained")
        task_id = api.post("tasks", json={"type": "mail.send", "payload": {"to": "ada@example.org"}}).json()["task_id"]
        page.goto(f"/dashboard#/tasks/{task_id}")
        expect(page.locator(".why")).to_contain_text("no worker serves the group mail; 1 of its workers is drained")
        page.goto("/dashboard#/workers")
        card.get_by_role("button", name="Resume").click()
        expect(card.locator(".status")).not_to_have_text("drained")
        expect(card.get_by_role("button", name="Drain")).to_be_focused()
        ended = api.get(f"tasks/{task_id}", params={"wait": 20}).json()
        assert ended["status"] == "completed"
        actions = [entry["action"] for entry in api.get("audit").json()["items"]]
        assert [action for action in actions if action.startswith("worker.")] == ["worker.resume", "worker.drain"]
