"""The pages of limits and keys in a real browser, on a real platform with a real worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

#: Longer than any test.
LONG_S = 600

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("limits")) as address:
        yield address


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=30) as client:
        yield client


def submit(api: httpx.Client, type: str = "mail.send", **more: Any) -> str:
    """Submit a task; returns its id."""
    payloads = {
        "mail.send": {"to": "ada@example.org"},
        "report.render": {"customer": 1, "pages": 2, "pause_s": LONG_S},
        "card.charge": {"amount": 1, "card": "4000"},
    }
    answer = api.post("tasks", json={"type": type, "payload": payloads[type], **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


@contextmanager
def rule(api: httpx.Client, name: str, **fields: Any) -> Iterator[None]:
    """Set a rule, and delete it at the end."""
    answer = api.put(f"limits/{name}", json=fields)
    assert answer.status_code == 201, answer.text
    try:
        yield
    finally:
        api.delete(f"limits/{name}").raise_for_status()


@contextmanager
def long_reports(api: httpx.Client, group: str, counts: dict[str, int]) -> Iterator[dict[str, list[str]]]:
    """Submit so many tasks of each key that end only when they are cancelled; yields their ids."""
    made = {
        key: [submit(api, "report.render", queue=group, key=key) for _ in range(count)] for key, count in counts.items()
    }
    try:
        yield made
    finally:
        for task_id in (one for ids in made.values() for one in reversed(ids)):
            api.post(f"tasks/{task_id}/cancel").raise_for_status()


def row(page: Page, name: str) -> Locator:
    """The row of a rule."""
    return page.locator(f'tr[data-rule="{name}"]')


def rows(page: Page) -> Locator:
    return page.locator(".list .row")


def test_a_rule_is_made_changed_and_deleted(browser: Browser, url: str, api: httpx.Client) -> None:
    with watched_page(browser, url, expected="status of 422") as page:
        page.goto("/dashboard#/limits")
        expect(page.get_by_text("No rules")).to_be_visible()
        page.get_by_role("button", name="New rule").click()
        form = page.get_by_role("dialog", name="New rule")
        form.get_by_label("Name").fill("per customer")
        form.get_by_label("Group", exact=True).fill("mail")
        expect(form.get_by_label("Waiting tasks")).to_be_hidden()
        form.get_by_role("button", name="Create").click()
        expect(form.get_by_role("alert")).to_contain_text("give at least one of max_running, rate")
        expect(form.get_by_label("Running at once")).to_have_attribute("aria-invalid", "true")
        form.get_by_label("Count").select_option("Each key by itself")
        form.get_by_label("Running at once").fill("2")
        form.get_by_label("The keys of a group take turns").check()
        form.get_by_label("Waiting tasks of one key").fill("500")
        form.get_by_label("Note").fill("as the customer's plan says")
        command = "celeriac limits set 'per customer' --group mail --by key --max-running 2 --fair --max-waiting 500"
        expect(form.locator(".command pre")).to_have_text(f"{command} --note 'as the customer'\\''s plan says'")
        form.get_by_role("button", name="Create").click()
        expect(form).to_have_count(0)
        mine = row(page, "per customer")
        expect(mine).to_contain_text("group mail, each key by itself")
        expect(mine).to_contain_text("at most 2 running, keys take turns, at most 500 waiting")
        expect(mine).to_contain_text("as the customer's plan says")

        page.get_by_role("button", name="New rule").click()
        form.get_by_label("Name").fill("per customer")
        form.get_by_role("button", name="Create").click()
        expect(form.get_by_role("alert")).to_contain_text("A rule per customer exists")
        form.get_by_role("button", name="Cancel").click()

        mine.get_by_role("button", name="Edit per customer").click()
        form = page.get_by_role("dialog", name="Edit per customer")
        expect(form.get_by_label("Waiting tasks of one key")).to_have_value("500")
        form.get_by_label("Running at once").fill("")
        form.get_by_label("Starts per time").fill("100/m")
        form.get_by_role("button", name="Set").click()
        expect(mine).to_contain_text("100/m starting, keys take turns, at most 500 waiting")
        expect(mine).not_to_contain_text("at most 2 running")
        kept = api.get("limits/per customer").json()
        assert (kept["max_running"], kept["rate"], kept["fair"], kept["max_waiting"]) == (None, "100/m", True, 500)

        mine.get_by_role("button", name="Delete per customer").click()
        page.get_by_role("button", name="Keep as it is").click()
        expect(mine).to_be_visible()
        mine.get_by_role("button", name="Delete per customer").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(mine).to_have_count(0)
        assert api.get("limits").json() == {"items": []}


def test_a_rule_names_the_keys_with_most_tasks_and_leads_to_them(page: Page, api: httpx.Client) -> None:
    with (
        rule(api, "turns", group="busy", by="key", max_running=2, fair=True),
        long_reports(api, "busy", {"acme": 5, "globex": 3, "initech": 1}) as made,
    ):
        page.goto("/dashboard#/limits")
        expect(row(page, "turns").locator("td").nth(2)).to_have_text("4")
        expect(row(page, "turns").locator("td").nth(3)).to_have_text("5")
        expect(row(page, "turns")).to_contain_text("limited")
        row(page, "turns").get_by_role("link").click()
        keys = page.locator("tr[data-key]")
        expect(keys).to_have_text([re.compile(text) for text in ("^acme3.*2 of 2", "^globex1.*2 of 2", "^initech0")])
        page.get_by_role("button", name="Most running").click()
        expect(keys.last).to_contain_text("1 of 2")
        expect(page.locator(".counter", has_text="Held back")).to_contain_text("4")

        page.get_by_role("link", name="globex").click()
        expect(rows(page)).to_have_count(3)
        expect(page.get_by_label("Key")).to_have_value("globex")
        expect(rows(page).locator(".key")).to_have_text(["globex"] * 3)

        # A task says which rule holds it, and leads back to it.
        page.goto(f"/dashboard#/tasks/{made['acme'][-1]}")
        why = page.locator(".why li")
        expect(why.first).to_contain_text("the key acme (rule turns) is at its limit: 2 of 2 run")
        expect(page.locator(".facts").get_by_role("link", name="acme")).to_be_visible()
        expect(page.locator(".why-box .command")).to_contain_text(f"celeriac why {made['acme'][-1]}")
        why.first.get_by_role("link", name="turns").click()
        expect(page.get_by_role("heading", name="turns")).to_be_visible()
        # Room for it, and the page follows.
        api.post(f"tasks/{made['acme'][0]}/cancel").raise_for_status()
        expect(page.locator('tr[data-key="acme"]').locator("td").nth(1)).to_have_text("2")

        page.goto("/dashboard#/groups")
        group = page.locator('tr[data-group="busy"]')
        expect(group.get_by_text("limited")).to_be_visible()
        group.get_by_role("link", name="turns").click()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page).to_have_url(re.compile("#/limits$"))
        expect(row(page, "turns")).to_have_count(0)
        assert api.put("limits/turns", json={"group": "busy", "max_running": 1}).status_code == 201


def test_a_rule_that_counts_users_leads_to_their_tasks(page: Page, api: httpx.Client) -> None:
    with rule(api, "users", type="report.render", by="user", ordered=True):
        made = [submit(api, "report.render", user_id="ada", queue="desks") for _ in range(2)]
        page.goto("/dashboard#/limits/users")
        expect(page.get_by_role("heading", name="Users", exact=True)).to_be_visible()
        expect(page.locator('tr[data-key="ada"]')).to_contain_text("1 of 1")
        page.get_by_role("link", name="ada").click()
        expect(rows(page)).to_have_count(2)
        expect(page).to_have_url(re.compile("type=report.render&user_id=ada"))
        for task_id in reversed(made):
            api.post(f"tasks/{task_id}/cancel").raise_for_status()


def test_the_limits_of_a_group_are_a_rule(page: Page, api: httpx.Client) -> None:
    submit(api, queue="farm")
    assert api.put("groups/farm/limits", json={"max_running": 3, "note": "as agreed"}).is_success
    page.goto("/dashboard#/limits")
    expect(row(page, "group:farm")).to_contain_text("at most 3 running")
    row(page, "group:farm").get_by_role("button", name="Edit").click()
    form = page.get_by_role("dialog", name="Edit group:farm")
    # What makes it the limits of the group stays.
    expect(form.get_by_label("Count")).to_be_hidden()
    form.get_by_label("Running at once").fill("4")
    form.get_by_role("button", name="Set").click()
    expect(row(page, "group:farm")).to_contain_text("at most 4 running")
    assert api.get("groups/farm").json()["limits"]["max_running"] == 4
    page.goto("/dashboard#/groups")
    expect(page.locator('tr[data-group="farm"]')).to_contain_text("at most 4 running · as agreed")
    api.delete("groups/farm/limits").raise_for_status()


def test_tasks_are_found_by_their_key(page: Page, api: httpx.Client) -> None:
    submit(api, tags=["keyless"])
    page.goto("/dashboard#/tasks?tag=keyless")
    expect(rows(page)).to_have_count(1)
    # Where no task has a key, there is no column for it.
    expect(page.locator(".columns .key")).to_be_hidden()
    submit(api, key="umbrella", tags=["found"])
    submit(api, key="umbrella corp", tags=["found"])
    page.goto("/dashboard#/tasks?tag=found")
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".columns .key")).to_be_visible()
    page.get_by_label("Key").fill("umbrella")
    expect(rows(page)).to_have_count(1)
    expect(rows(page).locator(".key")).to_have_text("umbrella")
    page.reload()
    expect(rows(page)).to_have_count(1)
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    # What comes in meanwhile is filtered as well.
    submit(api, key="other", tags=["found"])
    submit(api, key="umbrella", tags=["found"])
    expect(rows(page)).to_have_count(2)
    page.get_by_label("Key").fill("nobody")
    page.get_by_role("button", name="Show all tasks").click()
    expect(page.get_by_label("Key")).to_have_value("")


def test_a_new_task_is_given_a_key(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/tasks")
    page.get_by_role("button", name="New task").click()
    form = page.get_by_role("dialog", name="New task")
    form.get_by_label("Type").select_option("mail.send")
    form.get_by_label("Payload").fill('{"to": "ada@example.org"}')
    form.get_by_label("Key").fill("hooli")
    form.get_by_role("button", name="Submit").click()
    page.locator(".facts").get_by_role("link", name="hooli").click()
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("mail.send")


def test_dead_letters_of_one_key_are_retried(page: Page, api: httpx.Client) -> None:
    for key, count in (("stark", 2), ("wayne", 1)):
        for _ in range(count):
            submit(api, "card.charge", key=key, queue="broken")
    page.goto("/dashboard#/errors?queue=broken")
    errors = page.get_by_role("status").filter(has_text="failed now")
    expect(errors).to_contain_text("3 failed now")
    page.get_by_label("Key").fill("stark")
    expect(errors).to_contain_text("2 failed now")
    page.get_by_role("button", name="Retry all of these").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("All failed tasks of this list")
    dialog.get_by_role("button", name="Retry 2").click()
    jobs = page.locator(".card", has=page.get_by_role("heading", name="Bulk operations"))
    expect(jobs).to_contain_text("2 of 2")


def test_a_rule_that_does_not_exist_says_so(browser: Browser, url: str) -> None:
    with watched_page(browser, url, expected="status of 404") as page:
        page.goto("/dashboard#/limits/nothing")
        expect(page.get_by_text("This rule does not exist")).to_be_visible()


def test_what_nobody_takes_is_said_before_it_is_due(page: Page, api: httpx.Client) -> None:
    wanted = {"type": "remote", "payload": {"data": {"n": 1}}, "queue": "nobody"}
    task_id = str(api.post("tasks", json={**wanted, "delay": "1h"}).json()["task_id"])
    page.goto(f"/dashboard#/tasks/{task_id}")
    why = page.locator(".why li")
    expect(why.locator(".chip")).to_have_text(["time", "no worker"])
    expect(why.last).to_contain_text("no remote worker serves the group nobody")
    api.post(f"tasks/{task_id}/cancel").raise_for_status()
    definition = {"name": "nightly", "user_id": "local", "task": wanted, "trigger_type": "LOOP"}
    made = api.post("definitions", json={**definition, "trigger_args": {"interval": 86_400}, "paused": True})
    assert made.status_code in (200, 201), made.text
    page.goto(f"/dashboard#/definitions/{made.json()['task_def_id']}")
    expect(page.locator(".notice")).to_contain_text("no remote worker serves the group nobody")


def test_a_task_tells_of_the_submissions_that_it_stands_for(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, once={"key": "acme"}, delay="1h")
    body = {"type": "mail.send", "payload": {"to": "grace@example.org"}, "once": {"key": "acme"}}
    assert api.post("tasks", json=body).json()["task_id"] == task_id
    page.goto(f"/dashboard#/tasks/{task_id}")
    page.get_by_text("All events with exact times").click()
    expect(page.locator('.events-table tr[data-kind="deduplicated"]')).to_contain_text("Stands for another submission")
    rejected = {**body, "once": {"key": "acme", "on_conflict": "reject"}}
    assert api.post("tasks", json=rejected).status_code == 409
    page.reload()
    page.get_by_text("All events with exact times").click()
    expect(page.locator(".events-table")).to_contain_text("Another submission was refused")
    api.post(f"tasks/{task_id}/cancel").raise_for_status()
