"""The pages where authentication is on: signing in and out, and what users see who are no admins."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from celeriac.access.principal import Scope
from celeriac.settings import AccessSettings, Settings
from tests.kit.command_line import CELERIAC, REPOSITORY, clean_environment
from tests.kit.tokens import token_of
from tests.kit.up.browser import watched_page
from tests.kit.up.running_up import RunningUp

SECRET = "the secret of the pages' tests, long enough"
SETTINGS = Settings(access=AccessSettings(jwt_secret=SECRET))  # type: ignore[arg-type]
#: What the browser says of an answer that refuses.
REFUSED = "status of 40[134]"

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    """A platform whose callers must say who they are."""
    folder = tmp_path_factory.mktemp("access")
    config = folder / "celeriac.yaml"
    config.write_text(f'imports: [tests.kit.up.pages_types]\naccess: {{jwt_secret: "{SECRET}"}}\n')
    with RunningUp(folder / "data", "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY)) as running:
        asyncio.run(running.ready())
        yield running
        asyncio.run(running.stop())


@pytest.fixture(scope="module")
def url(up: RunningUp) -> str:
    return str(up.run_json["http"])


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with watched_page(browser, url, expected=REFUSED) as opened:
        yield opened


def token(user: str, *scopes: Scope) -> str:
    chosen = scopes or (Scope.SUBMIT, Scope.READ)
    return token_of(SETTINGS, user_id=user, scopes=chosen)


def submit(url: str, user: str, type: str, payload: dict[str, Any]) -> str:
    """Submit a task of a user; returns its id."""
    headers = {"Authorization": f"Bearer {token(user)}"}
    answer = httpx.post(f"{url}/api/v1/tasks", json={"type": type, "payload": payload}, headers=headers, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def keys(up: RunningUp, *arguments: str) -> str:
    """Run `celeriac keys` on the platform's data folder; returns what it printed."""
    command = [*CELERIAC, "keys", *arguments, "--data-dir", str(up.data_dir)]
    environ = clean_environment(PYTHONPATH=str(REPOSITORY))
    return subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def sign_in(page: Page, credential: str, path: str = "/dashboard") -> None:
    page.goto(path)
    page.get_by_label("Token or API key").fill(credential)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")


def test_a_stranger_is_led_to_the_sign_in_and_from_there_to_what_was_asked_for(page: Page, url: str) -> None:
    task_id = submit(url, "ada", "mail.send", {"to": "ada@example.org"})
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(page).to_have_url(re.compile("/sign-in"))
    expect(page.get_by_label("Token or API key")).to_be_focused()
    page.get_by_label("Token or API key").fill("not a token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Token or API key").fill(token("ada"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/dashboard#/tasks/{task_id}$"))
    expect(page.locator(".task-head .status")).to_have_text("completed")
    assert page.evaluate("document.cookie") == "", "no script can read the credential"


def test_the_sign_in_speaks_another_language_and_still_leads_to_what_was_asked_for(page: Page, url: str) -> None:
    task_id = submit(url, "ada", "mail.send", {"to": "ada@example.org"})
    page.goto(f"/dashboard#/tasks/{task_id}")
    languages = page.get_by_role("group", name="Language")
    expect(languages.get_by_role("button", name="English")).to_have_attribute("aria-pressed", "true")
    languages.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.get_by_label("令牌或 API 密钥").fill(token("ada"))
    page.get_by_role("button", name="登录").click()
    expect(page).to_have_url(re.compile(f"/dashboard#/tasks/{task_id}$"))
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    expect(page.locator(".task-head .status")).to_have_text("已完成")
    assert page.evaluate("document.cookie") == "celeriac_language=zh"
    page.get_by_role("button", name=re.compile("退出")).click()
    expect(page.get_by_role("button", name="登录")).to_be_visible()


def test_a_credential_that_cannot_read_is_refused_with_the_reason(page: Page) -> None:
    page.goto("/dashboard")
    page.get_by_label("Token or API key").fill(token("gpu-1", Scope.WORKER))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("needs the scope read")
    page.get_by_label("Token or API key").fill(token("ada"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_who_signed_in_signs_out(page: Page) -> None:
    sign_in(page, token("ada"))
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    page.goto("/docs")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_a_page_whose_credential_ends_leads_to_the_sign_in(page: Page, up: RunningUp) -> None:
    key = json.loads(keys(up, "create", "browser", "--user", "ada", "--json"))
    sign_in(page, key["key"])
    keys(up, "revoke", key["id"])
    # The page asks for nothing: its stream ends, and it finds out why.
    expect(page).to_have_url(re.compile("/sign-in"), timeout=60_000)


def test_a_user_sees_own_tasks_and_may_act_on_them(page: Page, url: str) -> None:
    mine = submit(url, "grace", "report.render", {"customer": 1, "pause_s": 60})
    other = submit(url, "linus", "mail.send", {"to": "linus@example.org"})
    sign_in(page, token("grace"), "/dashboard#/tasks")
    rows = page.locator(".list .row")
    expect(rows).to_have_count(1)
    expect(rows).to_have_attribute("data-id", mine)
    # Nor is it told of what others do, as it happens.
    submit(url, "linus", "mail.send", {"to": "linus@example.org"})
    own = submit(url, "grace", "mail.send", {"to": "grace@example.org"})
    expect(page.locator(f'.row[data-id="{own}"] .status')).to_have_text("completed")
    expect(rows).to_have_count(2)
    page.goto(f"/dashboard#/tasks/{other}")
    expect(page.get_by_text("This task does not exist")).to_be_visible()
    page.goto(f"/dashboard#/tasks/{mine}")
    page.get_by_role("button", name="Cancel task").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel task").click()
    expect(page.locator(".task-head .status")).to_have_text("cancelled")


def test_a_user_is_offered_nothing_that_only_admins_may(page: Page, url: str) -> None:
    headers = {"Authorization": f"Bearer {token('root', Scope.ADMIN)}"}
    rule = {"group": "default", "by": "key", "max_running": 5}
    assert httpx.put(f"{url}/api/v1/limits/for-all", json=rule, headers=headers, timeout=30).is_success
    sign_in(page, token("ada"))
    navigation = page.get_by_role("navigation", name="Main")
    expect(navigation.get_by_role("link", name="Tasks")).to_be_visible()
    expect(navigation.get_by_role("link", name="Workers")).to_be_hidden()
    expect(page.get_by_text("Workers online")).to_be_hidden()
    page.goto("/dashboard#/groups")
    expect(page.locator('tr[data-group="default"]')).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    page.goto("/dashboard#/limits/for-all")
    expect(page.locator(".facts")).to_contain_text("at most 5 running")
    for name in ("Edit", "Delete"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    # Keys may be the customers of others.
    expect(page.get_by_role("heading", name="Keys")).to_have_count(0)
    page.goto("/dashboard#/limits")
    expect(page.locator('tr[data-rule="for-all"]')).to_be_visible()
    expect(page.get_by_role("button", name="New rule")).to_have_count(0)
    page.goto("/dashboard#/workers")
    expect(page.get_by_text("Only admins see this")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).not_to_contain_text("Workers")


def test_an_admin_sees_the_tasks_of_all_users(page: Page, url: str) -> None:
    task_id = submit(url, "margaret", "mail.send", {"to": "margaret@example.org"})
    sign_in(page, token("root", Scope.ADMIN), "/dashboard#/tasks?user_id=margaret")
    expect(page.locator(f'.row[data-id="{task_id}"]')).to_be_visible()
    page.goto("/dashboard#/groups")
    expect(page.locator('tr[data-group="default"]').get_by_role("button", name="Pause")).to_be_visible()


def test_who_may_only_read_is_offered_no_actions(page: Page, url: str) -> None:
    task_id = submit(url, "reader", "card.charge", {"amount": 1, "card": "4000"})
    sign_in(page, token("reader", Scope.READ), f"/dashboard#/tasks/{task_id}")
    expect(page.locator(".task-head .status")).to_have_text("failed")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    page.goto("/dashboard#/dead")
    errors = page.locator(".errors li")
    expect(errors).to_contain_text("the bank declined the card")
    # The failures of others are in the group too, but only admins see these.
    submit(url, "another-reader", "card.charge", {"amount": 1, "card": "4000"})
    admin = {"Authorization": f"Bearer {token('root', Scope.ADMIN)}"}

    def failures(headers: dict[str, str], **query: str) -> int:
        answer = httpx.get(f"{url}/api/v1/errors", params=query, headers=headers, timeout=30)
        return int(answer.json()["total"]["failures"])

    while not failures(admin, user_id="another-reader"):
        page.wait_for_timeout(200)
    reader = {"Authorization": f"Bearer {token('reader', Scope.READ)}"}
    assert failures(admin) > failures(reader, user_id="another-reader") == failures(reader) == 1
    expect(errors).to_contain_text("1 failed now")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    page.goto("/dashboard#/definitions")
    expect(page.get_by_role("heading", name="Definitions")).to_be_visible()
    expect(page.get_by_role("button", name="New definition")).to_have_count(0)
