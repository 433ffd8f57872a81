"""A walk through all pages: accessible, inside the window, without errors, and in the reader's language."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from celeriac.access.principal import Scope
from celeriac.settings import AccessSettings, Settings
from tests.kit.command_line import REPOSITORY
from tests.kit.pages.walk import english, offences, outside, settle
from tests.kit.tokens import token_of
from tests.kit.up.browser import watched_page
from tests.kit.up.running_up import RunningUp

expect.set_options(timeout=30_000)

SECRET: Final = "the secret of the walk, which is long enough"
SETTINGS: Final = Settings(access=AccessSettings(jwt_secret=SECRET))  # type: ignore[arg-type]
USER: Final = (Scope.SUBMIT, Scope.READ)
ADMIN: Final = (Scope.ADMIN, Scope.SUBMIT, Scope.READ)
WIDTHS: Final = (1440, 1024, 390)
#: Every section of the menu; only an admin sees what is in the second list.
SECTIONS: Final = (
    "overview",
    "tasks",
    "errors",
    "types",
    "workflows",
    "waits",
    "requests",
    "groups",
    "limits",
    "definitions",
)
ADMINS: Final = ("workers",)
#: What the pages' data of this test is called, in texts that are not marked as code.
NAMES: Final = (
    "the bank declined the card: insufficient funds",
    "quarterly figures",
    "nightly greeting",
    "card_declined",
    "mail|payments|orders|reports|default|sleep|remote|wait|per-customer|ada|root|first|second",
    "English",
    # What is in the tasks, what they say of themselves, and what the server says of them.
    r"amount|card|customer|pause s|to ada@example\.org",
    "Refund 12 €|approval|Decision|Pay it back|Note",
    r"rendering( a page)?|page \d+ of 10|page=\d+",
    r"the bank said no|attempt failed|card=4000|code=card_declined error=",
    "the task [0-9a-f-]+, on which this one depends, was to be completed but is failed",
    re.escape(socket.gethostname()),
)


def token(user: str, *scopes: Scope) -> str:
    return token_of(SETTINGS, user_id=user, scopes=scopes)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform whose callers must say who they are."""
    folder = tmp_path_factory.mktemp("walk")
    config = folder / "celeriac.yaml"
    config.write_text(f'imports: [tests.kit.up.pages_types]\naccess: {{jwt_secret: "{SECRET}"}}\n')
    with RunningUp(folder / "data", "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY)) as running:
        asyncio.run(running.ready())
        yield str(running.run_json["http"])
        asyncio.run(running.stop())


@pytest.fixture(scope="module")
def places(url: str) -> list[str]:
    """Make one of each thing, as an ordinary user; returns the addresses of the pages that show one thing."""
    headers = {"Authorization": f"Bearer {token('ada', *USER)}"}
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=20, headers=headers) as api:
        declined = {"type": "card.charge", "payload": {"amount": 12, "card": "4000"}}
        failed = api.post("tasks", json=declined).json()["task_id"]
        running = api.post("tasks", json={"type": "report.render", "payload": {"customer": 7, "pause_s": 60}})
        later = {"type": "mail.send", "payload": {"to": "ada@example.org"}, "run_at": "2031-07-01T10:00:00Z"}
        scheduled = api.post("tasks", json=later).json()["task_id"]
        api.post("tasks", json={"type": "order.refund", "payload": {"amount": 12}})
        nodes = {"first": declined, "second": {**declined, "after": ["first"]}}
        workflow = api.post("workflows", json={"name": "quarterly figures", "nodes": nodes}).json()["workflow_id"]
        mail = {"type": "mail.send", "payload": {"to": "ada@example.org"}}
        rule = {"trigger_type": "LOOP", "trigger_args": {"interval": 86400}}
        made = api.post("definitions", json={"user_id": "ada", "name": "nightly greeting", "task": mail, **rule})
        assert made.status_code < 300, made.text
        definition = made.json()["task_def_id"]
        limit = {"group": "mail", "by": "key", "max_running": 2}
        admin = {"Authorization": f"Bearer {token('root', *ADMIN)}"}
        answer = api.put("limits/per-customer", json=limit, headers=admin)
        assert answer.status_code < 300, answer.text
        # The pages have something to show once the history has heard of the failures.
        until = time.monotonic() + 60
        while len(api.get("dead").json()["items"]) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
    tasks = [f"tasks/{one}" for one in (failed, running.json()["task_id"], scheduled)]
    return [*tasks, f"workflows/{workflow}", f"definitions/{definition}", "limits/per-customer", "types/card.charge"]


@contextmanager
def signed_in(browser: Browser, url: str, user: str, *scopes: Scope, **options: Any) -> Iterator[Page]:
    """Open a page of a user who has signed in."""
    with watched_page(browser, url, expected="status of 40[34]", **options) as page:
        page.goto("/sign-in")
        page.locator("#credential").fill(token(user, *scopes))
        page.locator("form", has=page.locator("#credential")).get_by_role("button").click()
        expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
        yield page


def go(page: Page, place: str) -> None:
    page.goto(f"/dashboard#/{place}")
    expect(page.locator("#main h1").first).to_be_visible()
    settle(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_inside_the_window(
    browser: Browser, url: str, places: list[str], scheme: str
) -> None:
    wrong: dict[str, list[str]] = {}
    with signed_in(browser, url, "root", *ADMIN, color_scheme=scheme) as page:
        for place in (*SECTIONS, *ADMINS, *places, "nowhere"):
            page.set_viewport_size({"width": WIDTHS[0], "height": 900})
            go(page, place)
            wrong[place] = offences(page)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                wrong[place] += [f"at {width} px: {one}" for one in outside(page)]
        for path in ("/docs", "/test-worker", "/sign-in"):
            page.set_viewport_size({"width": WIDTHS[0], "height": 900})
            page.goto(path)
            expect(page.locator("h1").first).to_be_visible()
            wrong[path] = offences(page)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                wrong[path] += [f"at {width} px: {one}" for one in outside(page)]
    found = {place: texts for place, texts in wrong.items() if texts}
    assert not found, "\n".join(f"{place}: {one}" for place, texts in found.items() for one in texts)


def test_a_plain_user_gets_pages_that_are_as_good(browser: Browser, url: str, places: list[str]) -> None:
    wrong: dict[str, list[str]] = {}
    with signed_in(browser, url, "ada", *USER) as page:
        for place in (*SECTIONS, *places):
            go(page, place)
            wrong[place] = offences(page)
            page.set_viewport_size({"width": 390, "height": 844})
            wrong[place] += outside(page)
            page.set_viewport_size({"width": 1280, "height": 800})
        expect(page.locator("#nav .links a:visible", has_text="Workers")).to_have_count(0)
        go(page, "workers")
        expect(page.locator("#main")).to_contain_text("Only admins see this")
    found = {place: texts for place, texts in wrong.items() if texts}
    assert not found, "\n".join(f"{place}: {one}" for place, texts in found.items() for one in texts)


def test_no_english_is_left_in_a_chinese_page(browser: Browser, url: str, places: list[str]) -> None:
    wrong: dict[str, list[str]] = {}
    headers = {"Authorization": f"Bearer {token('root', *ADMIN)}"}
    types = httpx.get(f"{url}/api/v1/task-types", headers=headers, timeout=20).json()["task_types"]
    names = (*NAMES, *(re.escape(one["description"]) for one in types if one["description"]))
    with signed_in(browser, url, "root", *ADMIN, locale="zh-CN") as page:
        expect(page.locator("html")).to_have_attribute("lang", "zh")
        for place in (*SECTIONS, *ADMINS, *places, "nowhere"):
            go(page, place)
            wrong[place] = english(page, *names)
        page.goto("/test-worker")
        expect(page.locator("h1")).to_have_text("测试 Worker")
        wrong["/test-worker"] = english(page, *names)
        page.goto("/sign-in")
        wrong["/sign-in"] = english(page, *names)
    found = {place: texts for place, texts in wrong.items() if texts}
    assert not found, "\n".join(f"{place}: {one}" for place, texts in found.items() for one in texts)
