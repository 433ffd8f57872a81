"""What people make on the pages: a newcomer's first task, tasks and definitions by hand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.command_line import REPOSITORY
from tests.kit.servers import free_port
from tests.kit.up.browser import watched_page
from tests.kit.up.running_up import RunningUp

#: As `make up` starts it, on another port.
QUICKSTART = """
imports: [tests.kit.up.pages_types]
grpc_services:
  services:
    demo: {{address: "127.0.0.1:{port}"}}
up:
  processes:
    demo-executor: python examples/python_service/server.py --port {port}
"""

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform that nobody has used yet."""
    folder = tmp_path_factory.mktemp("making")
    config = folder / "celeriac.yaml"
    config.write_text(QUICKSTART.format(port=free_port()))
    with RunningUp(folder / "data", "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY)) as up:
        asyncio.run(up.ready())
        assert f"{up.run_json['http']}/" in up.text
        yield up.run_json["http"]
        asyncio.run(up.stop())


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with watched_page(browser, url, timezone_id="Europe/Berlin", expected="status of 422") as opened:
        yield opened


def test_a_newcomer_reads_what_this_is_and_watches_a_first_task(page: Page, url: str) -> None:
    # An ended task has no bar: its group is held back until the page is open.
    httpx.post(f"{url}/api/v1/groups/default/pause", json={}, timeout=30).raise_for_status()
    page.goto("/")
    welcome = page.get_by_role("region", name="Celeriac runs work in the background")
    expect(welcome).to_contain_text("curl -sw '\\n' -X POST")
    welcome.get_by_role("button", name="Run an example task").click()
    expect(page.locator(".task-head .status")).to_have_text("pending")
    httpx.post(f"{url}/api/v1/groups/default/resume", timeout=30).raise_for_status()
    bar = page.get_by_role("progressbar", name="progress of the task")
    expect(bar).to_have_attribute("aria-valuenow", re.compile("^[1-9][0-9]$"))
    expect(page.locator(".progress-line")).to_contain_text("counting")
    expect(page.locator(".task-head .status")).to_have_text("completed")
    expect(page.locator(".card", has=page.get_by_role("heading", name="Result"))).to_contain_text('"counted": 10')
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator(".counter", has_text="Failed, last 1 h")).to_contain_text("% of 1")
    expect(welcome).to_have_count(0)


def test_a_task_is_submitted_by_hand(page: Page) -> None:
    page.goto("/dashboard#/tasks")
    page.get_by_role("button", name="New task").click()
    form = page.get_by_role("dialog", name="New task")
    expect(form.get_by_label("Payload")).to_have_value(re.compile('"service": "demo"'))
    form.get_by_label("Type").select_option("mail.send")
    expect(form.get_by_label("Payload")).to_have_value('{\n  "to": "text"\n}')
    form.get_by_label("Payload").fill('{"to": ')
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_contain_text("is not JSON")
    form.get_by_label("Payload").fill('{"subject": "Hello"}')
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_contain_text("payload.to")
    form.get_by_label("Payload").fill('{"to": "ada@example.org"}')
    form.get_by_label("Group").fill("default")
    form.get_by_label("Delay").fill("1h")
    form.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile(r"#/tasks/[0-9a-f-]{36}$"))
    expect(page.locator(".task-head .status")).to_have_text("scheduled")
    expect(page.locator(".facts")).to_contain_text("default")


def test_a_task_that_waits_says_why(page: Page, url: str) -> None:
    def ask(path: str, body: dict[str, object]) -> dict[str, str]:
        return dict(httpx.post(f"{url}/api/v1/{path}", json=body, timeout=30).raise_for_status().json())

    mail = {"type": "mail.send", "queue": "quiet", "payload": {"to": "ada@example.org"}}
    first = ask("tasks", mail)["task_id"]
    page.goto(f"/dashboard#/tasks/{first}")
    expect(page.locator(".task-head .status")).to_have_text("completed")
    ask("groups/quiet/pause", {"note": "SES quota, INC-1234"})
    page.goto(f"/dashboard#/tasks/{ask('tasks', mail)['task_id']}")
    line = page.locator(".why")
    expect(line).to_contain_text(re.compile("the group quiet is paused since .+: SES quota, INC-1234"))
    expect(line.locator("li")).to_have_count(2)
    expect(line).to_contain_text("it is the next one in the group quiet")
    ask("groups/quiet/resume", {})
    expect(page.locator(".task-head .status")).to_have_text("completed")
    expect(line).to_be_hidden()
    # The card of the progress is gone with the end: the timeline tells the times.
    expect(page.get_by_role("list", name="Attempts")).to_contain_text("ran")


def test_a_definition_is_created_and_run_paused_resumed_and_cancelled(page: Page, url: str) -> None:
    page.goto("/dashboard#/definitions")
    expect(page.get_by_text("No definitions")).to_be_visible()
    page.get_by_role("button", name="New definition").click()
    form = page.get_by_role("dialog", name="New definition")
    form.get_by_label("Name").fill("the morning mail")
    form.get_by_label("Type").select_option("mail.send")
    form.get_by_label("Payload").fill('{"to": "ada@example.org"}')
    form.get_by_label("When").select_option("By a cron rule")
    expect(form.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    form.get_by_role("textbox", name="Cron rule").fill("61 8 * * *")
    expect(form.get_by_text(re.compile("61"))).to_be_visible()
    form.get_by_role("textbox", name="Cron rule").fill("0 8 * * *")
    expect(form.get_by_text(re.compile("^Next: .*8:00:00"))).to_be_visible()
    form.get_by_role("button", name="Create").click()

    expect(page.get_by_role("heading", name="the morning mail")).to_be_visible()
    status = page.locator(".task-head .status")
    expect(status).to_have_text("active")
    expect(page.locator(".facts")).to_contain_text("08:00 each day")
    expect(page.locator(".facts")).to_contain_text("0 8 * * * Europe/Berlin")
    definition_id = page.url.rpartition("/")[2]

    open_menu = page.get_by_role("button", name="Actions of the morning mail")
    open_menu.click()
    page.get_by_role("button", name="Run now").click()
    instances = page.locator(".card", has=page.get_by_role("heading", name="Instances"))
    expect(instances.locator("tr")).to_have_count(1)
    expect(instances).to_contain_text("manual")
    page.locator("main").click(position={"x": 2, "y": 2})  # a page is drawn anew while nobody holds a button of it
    expect(instances).to_contain_text("completed")

    open_menu.click()
    page.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("paused")
    open_menu.click()
    page.get_by_role("button", name="Resume").click()
    expect(status).to_have_text("active")

    # Its name and its rule are edited; the rest stays.
    open_menu.click()
    page.get_by_role("button", name="Edit").click()
    form = page.get_by_role("dialog", name="Edit the morning mail")
    expect(form.get_by_label("When")).to_have_value("keep")
    form.get_by_label("Name").fill("the evening mail")
    form.get_by_label("When").select_option("By a cron rule")
    form.get_by_role("textbox", name="Cron rule").fill("30 18 * * 1-5")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="the evening mail")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("18:30 from Monday to Friday")
    edited = httpx.get(f"{url}/api/v1/definitions/{definition_id}", timeout=30).json()
    assert (edited["trigger_args"], edited["task"]["type"]) == (
        {"cron": "30 18 * * 1-5", "timezone": "Europe/Berlin"},
        "mail.send",
    )

    # The same from the list, where the coming runs are drawn.
    page.goto("/dashboard#/definitions")
    row = page.locator("tbody tr", has_text="the evening mail")
    expect(page.locator(".calendar")).to_contain_text("18:30")
    expect(row.get_by_role("img", name="The last run; 0 failed")).to_be_visible()
    open_menu = row.get_by_role("button", name="Actions of the evening mail")
    open_menu.click()
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    open_menu.click()
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    expect(row).to_contain_text("paused")
    open_menu.click()
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel definition").click()
    expect(row).to_contain_text("cancelled")
    expect(row.get_by_role("button")).to_have_count(0)
    assert httpx.get(f"{url}/api/v1/definitions/{definition_id}", timeout=30).json()["status"] == "CANCELLED"


def test_a_definition_by_interval_and_one_for_a_moment(page: Page) -> None:
    page.goto("/dashboard#/definitions")
    for name, choose in (("often", "Every …"), ("once", "Once")):
        page.get_by_role("button", name="New definition").click()
        form = page.get_by_role("dialog", name="New definition")
        form.get_by_label("Name").fill(name)
        form.get_by_label("Type").select_option("mail.send")
        form.get_by_label("When").select_option(choose)
        if name == "often":
            form.get_by_label("How many").fill("90")
            form.get_by_label("Unit").select_option("minutes")
        else:
            form.get_by_role("button", name="Create").click()
            expect(form.get_by_role("alert")).to_contain_text("Choose the time")
            form.get_by_role("textbox", name="Time, by the clock").fill("2045-03-26T12:30:00")
        expect(form.get_by_text(re.compile("^Next: "))).to_be_visible()
        form.get_by_role("button", name="Create").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        page.get_by_role("link", name="Definitions").first.click()
    expect(page.locator("tbody tr", has_text="often")).to_contain_text("every 1 h 30 m")
    expect(page.locator("tbody tr", has_text="once")).to_contain_text("Mar 26, 2045, 12:30:00")
