"""What the pages offer beside the main ways: switches, filters, copies, more of a list, and a phone's view.

`test_pages_controls.py` holds that every action has a test.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from tests.kit.pages.things import DECLINED, HELD, MAIL, define, make_things, submit
from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("actions"), "tests.kit.up.task_page_types") as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with watched_page(browser, url, permissions=["clipboard-read", "clipboard-write"]) as opened:
        yield opened


@pytest.fixture(scope="module")
def things(api: httpx.Client) -> dict[str, str]:
    return make_things(api)


def rows(page: Page) -> Locator:
    return page.locator(".list .row")


def card(page: Page, heading: str) -> Locator:
    return page.locator(".card", has=page.get_by_role("heading", name=heading, exact=True))


def badge(page: Page) -> Locator:
    return page.locator(".task-head .status")


def copied(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def confirm(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def asks(path: str, hours: int, *names: str) -> Callable[[Request], bool]:
    """Return whether a request asks a path of the API for so many hours before now, with parameters of these names."""

    def so(request: Request) -> bool:
        address = httpx.URL(request.url)
        return address.path == f"/api/v1/{path}" and {*names} <= {*address.params} and span_h(address.params) == hours

    return so


def span_h(query: httpx.QueryParams) -> int:
    """How many hours before now a question begins; the API takes one hour if it is not said."""
    if "from" not in query:
        return 1
    return round((time.time() - datetime.fromisoformat(query["from"]).timestamp()) / 3600)


def test_the_switches_of_the_frame(page: Page) -> None:
    page.goto("/dashboard#/limits")
    nav = page.locator("#nav")
    html = page.locator("html")
    nav.get_by_role("button", name="Local").click()
    expect(nav.get_by_role("button", name="Local")).to_have_attribute("aria-pressed", "true")
    nav.get_by_role("button", name="Relative").click()
    expect(nav.get_by_role("button", name="Relative")).to_have_attribute("aria-pressed", "true")
    expect(html).to_have_attribute("data-theme", "light")
    page.keyboard.press("l")
    expect(html).to_have_attribute("data-theme", "dark")
    nav.get_by_role("button", name="Light or dark").click()
    expect(html).to_have_attribute("data-theme", "light")
    nav.get_by_role("button", name="Shortcuts").click()
    keys = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(keys).to_contain_text("Limits")
    keys.get_by_role("button", name="Close").click()
    expect(keys).to_have_count(0)
    nav.get_by_role("button", name="中文").click()
    expect(html).to_have_attribute("lang", "zh")
    expect(page.get_by_role("heading", name="限制")).to_be_visible()
    page.locator("#nav").get_by_role("button", name="English").click()
    expect(html).to_have_attribute("lang", "en")


def test_every_page_has_a_key(page: Page) -> None:
    page.goto("/dashboard#/overview")
    page.get_by_role("button", name="Shortcuts").click()
    names = page.locator(".shortcuts dt", has=page.locator("kbd:has-text('g') + kbd"))
    keys = {
        str(page.locator(".shortcuts dd").nth(place).inner_text()): names_of[-1]
        for place, names_of in enumerate(
            page.locator(".shortcuts dt").evaluate_all(
                "(all) => all.map((one) => [...one.querySelectorAll('kbd')].map((key) => key.textContent))"
            )
        )
        if names_of[0] == "g"
    }
    assert names.count() == len(keys) == page.locator("#nav .links a").count()
    page.keyboard.press("Escape")
    for name, key in keys.items():
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.locator("#nav .links a[aria-current]")).to_have_text(re.compile(f"^{name}"))


def test_the_overview_shows_other_spans_and_divisions(page: Page, things: dict[str, str]) -> None:
    page.goto("/dashboard#/overview")
    failed = page.locator(".counter", has_text="Failed, last")
    expect(failed).to_contain_text("last 1 h")
    for name, hours in (("15 m", 0), ("6 h", 6), ("24 h", 24), ("7 d", 168), ("1 h", 1)):
        with page.expect_request(asks("stats", hours, "by")):
            page.get_by_role("group", name="Time span").get_by_role("button", name=name, exact=True).click()
        expect(failed).to_contain_text(f"last {name}")
    divisions = page.get_by_role("group", name="Divided by")
    legend = page.locator(".chart-card", has=page.get_by_role("heading", name="Tasks ended")).locator(".legend")
    divisions.get_by_role("button", name="Group").click()
    expect(legend).to_contain_text("page")
    divisions.get_by_role("button", name="Outcome").click()
    expect(legend).to_have_text(re.compile("^Completed", re.IGNORECASE))


def test_tasks_are_chosen_by_status_group_user_tag_and_time(page: Page, api: httpx.Client) -> None:
    submit(api, MAIL, queue="kept")
    assert api.post("groups/kept/pause", json={}).is_success
    mine = {"tags": ["chosen"], "user_id": "ada"}
    ids = {
        "Pending": submit(api, MAIL, queue="kept", **mine),
        "Processing": submit(api, HELD, **mine),
        "Waiting": submit(api, {"type": "order.refund", "payload": {"amount": 1}}, **mine),
        "Scheduled": submit(api, MAIL, delay="1h", **mine),
        "Retrying": submit(api, {"type": "page.later", "payload": {"failures": 1}}, **mine),
        "Completed": submit(api, MAIL, **mine),
        "Failed": submit(api, DECLINED, **{**mine, "user_id": "grace"}),
        "Cancelled": submit(api, MAIL, delay="1h", tags=["chosen"]),
    }
    api.post(f"tasks/{ids['Cancelled']}/cancel")
    page.goto("/dashboard#/tasks")
    page.get_by_label("Tag").fill("chosen")
    expect(rows(page)).to_have_count(8)
    tabs = page.get_by_role("group", name="Status")
    for status, task_id in ids.items():
        tabs.get_by_role("button", name=status).click()
        expect(rows(page)).to_have_count(1)
        expect(page.locator(f'.row[data-id="{task_id}"]')).to_be_visible()
    tabs.get_by_role("button", name="Failed").click(modifiers=["Shift"])
    expect(rows(page)).to_have_count(2)
    expect(page).to_have_url(re.compile("status=cancelled%2Cfailed"))
    tabs.get_by_role("button", name="All").click()
    expect(rows(page)).to_have_count(8)
    page.get_by_label("User").fill("grace")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("User").fill("")
    page.get_by_label("Group").select_option("kept")
    expect(rows(page)).to_have_count(1)
    expect(page).to_have_url(re.compile("queue=kept"))
    page.get_by_label("Group").select_option("")
    page.get_by_label("Type").select_option("order.refund")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Type").select_option("")
    page.get_by_label("Submitted").select_option("Last 15 minutes")
    expect(page).to_have_url(re.compile("since=15m"))
    expect(rows(page)).to_have_count(8)
    for task_id in ids.values():
        api.post(f"tasks/{task_id}/cancel")
    api.post("groups/kept/resume")


def test_new_tasks_wait_above_a_list_that_was_scrolled(page: Page, api: httpx.Client) -> None:
    ids = [submit(api, MAIL, delay="1h", tags=["long"]) for _ in range(60)]
    page.goto("/dashboard#/tasks?tag=long")
    expect(page.locator(".list .foot")).to_contain_text("60 tasks")
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    page.locator(".scroller").evaluate("(list) => { list.scrollTop = 600; }")
    # The list has noticed: it draws the first row no more.
    expect(page.locator(f'.row[data-id="{ids[-1]}"]')).to_have_count(0)
    late = submit(api, MAIL, delay="1h", tags=["long"])
    page.get_by_role("button", name="1 new").click()
    expect(page.locator(f'.row[data-id="{late}"]')).to_be_visible()
    expect(page.locator(".scroller")).to_have_js_property("scrollTop", 0)


def test_selected_tasks_are_retried(page: Page, api: httpx.Client) -> None:
    ids = [submit(api, MAIL, delay="1h", tags=["back"]) for _ in range(2)]
    for task_id in ids:
        api.post(f"tasks/{task_id}/cancel")
    page.goto("/dashboard#/tasks?tag=back&status=cancelled")
    expect(rows(page)).to_have_count(2)
    page.get_by_label("Select the loaded tasks").check()
    page.get_by_role("group", name="Selected tasks").get_by_role("button", name="Retry").click()
    confirm(page, "Retry 2")
    expect(page.get_by_text("No task matches")).to_be_visible()
    page.get_by_role("button", name="Show all tasks").click()
    for task_id in ids:
        page.goto(f"/dashboard#/tasks/{task_id}")
        expect(badge(page)).to_have_text("completed")


def test_errors_are_chosen_by_time_type_group_and_user_and_more_are_shown(page: Page, api: httpx.Client) -> None:
    # Numbers and ids in a message do not tell errors apart, so words do.
    for first in "abcdef":
        for second in "uvwxyz":
            reason = f"the {first * 3}{second * 3} is missing"
            submit(api, {"type": "page.refuse", "payload": {"reason": reason}}, queue="many", user_id="ada")
    submit(api, DECLINED, queue="many", user_id="grace")
    page.goto("/dashboard#/errors")
    page.get_by_label("Group").select_option("many")
    errors = page.locator(".errors li")
    expect(page.get_by_role("status").filter(has_text="37 failed now")).to_be_visible()
    expect(errors).to_have_count(25)
    page.get_by_role("button", name="Show more").click()
    expect(errors).to_have_count(37)
    page.get_by_label("Type").select_option("card.charge")
    expect(errors).to_have_count(1)
    page.get_by_label("Type").select_option("")
    page.get_by_label("User").fill("grace")
    expect(errors).to_have_count(1)
    for name, hours in (("1 hour", 1), ("7 days", 168), ("30 days", 720), ("24 hours", 24)):
        chosen = page.get_by_role("button", name=name, exact=True)
        with page.expect_request(asks("errors", hours, "user_id")):
            chosen.click()
        expect(chosen).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Most frequent").click()
    page.get_by_role("button", name="Latest").click()
    expect(page.get_by_role("button", name="Latest")).to_have_attribute("aria-pressed", "true")
    expect(errors).to_have_count(1)
    page.get_by_role("link", name="Every failed task").click()
    expect(page).to_have_url(re.compile("#/tasks\\?status=failed"))
    expect(rows(page).first).to_be_visible()


def test_the_page_of_a_bulk_operation_leads_to_its_tasks(page: Page, api: httpx.Client) -> None:
    submit(api, MAIL, delay="1h", tags=["in-bulk"])
    body = {"action": "cancel", "filter": {"tag": "in-bulk", "status": ["scheduled", "cancelled"]}}
    page.goto(f"/dashboard#/tasks/{api.post('bulk', json=body).json()['task_id']}")
    expect(badge(page)).to_have_text("completed")
    page.get_by_role("link", name="tasks that match its filter").click()
    expect(page).to_have_url(re.compile("#/tasks\\?.*status=scheduled%2Ccancelled"))
    expect(rows(page)).to_have_count(1)


def test_types_show_other_spans_and_begin_tasks(page: Page, api: httpx.Client) -> None:
    for address in ("types", "types/card.charge"):
        page.goto(f"/dashboard#/{address}")
        for name, hours in (("1 hour", 1), ("7 days", 168), ("24 hours", 24)):
            chosen = page.get_by_role("button", name=name, exact=True)
            with page.expect_request(asks("stats", hours)):
                chosen.click()
            expect(chosen).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="New task").click()
    expect(page.get_by_role("dialog", name="New task").get_by_label("Type")).to_have_value("card.charge")
    # Who goes on leaves the dialog.
    page.goto("/dashboard#/types")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("searchbox", name="Name of a type").fill("refund")
    expect(page.locator("tr[data-type]")).to_have_count(1)


def test_workflows_are_chosen_by_status_and_name(page: Page, api: httpx.Client, things: dict[str, str]) -> None:
    failed = page.locator(f'.row[data-id="{things["workflow"]}"]')
    running = page.locator(f'.row[data-id="{things["running_workflow"]}"]')
    page.goto("/dashboard#/workflows")
    tabs = page.get_by_role("group", name="Status")
    for name, seen, hidden in (("Running", running, failed), ("Failed", failed, running)):
        tabs.get_by_role("button", name=name).click()
        expect(seen).to_be_visible()
        expect(hidden).to_have_count(0)
    for name in ("Completed", "Cancelled"):
        tabs.get_by_role("button", name=name).click()
        expect(failed).to_have_count(0)
        expect(page).to_have_url(re.compile(f"status={name.lower()}"))
    tabs.get_by_role("button", name="All").click()
    expect(failed).to_be_visible()
    # A name is a whole one, and the page knows some.
    expect(page.locator("datalist option[value='slow figures']")).to_be_attached()
    page.get_by_label("Name").fill("slow figures")
    expect(failed).to_have_count(0)
    expect(running).to_be_visible()


def test_a_workflow_is_zoomed_unfolded_searched_and_copied(page: Page, things: dict[str, str]) -> None:
    page.goto(f"/dashboard#/workflows/{things['workflow']}")
    graph = page.locator(".graph svg > g")
    expect(page.locator(".graph .box").first).to_be_visible()

    def scale() -> float:
        found = re.search(r"scale\(([\d.]+)", str(graph.get_attribute("transform")))
        assert found, graph.get_attribute("transform")
        return float(found[1])

    # The graph is drawn with the next frame.
    before, drawn = scale(), str(graph.get_attribute("transform"))
    smaller = page.get_by_role("button", name="Smaller")
    expect(smaller).to_have_attribute("aria-disabled", "true")  # all of it is in sight
    page.get_by_role("button", name="Larger").click()
    expect(graph).not_to_have_attribute("transform", drawn)
    larger, drawn = scale(), str(graph.get_attribute("transform"))
    assert larger > before
    expect(smaller).to_have_attribute("aria-disabled", "false")
    smaller.click()
    expect(graph).not_to_have_attribute("transform", drawn)
    assert scale() < larger
    page.get_by_role("button", name="Unfold all").click()
    page.get_by_role("button", name="Show the whole graph").click()
    expect(page.get_by_role("button", name="Fold again")).to_be_visible()
    page.get_by_role("button", name="Copy the id").click()
    expect(page.get_by_text("Id copied")).to_be_visible()
    assert copied(page) == things["workflow"]
    nodes = page.locator(".nodes .row")
    tabs = page.get_by_role("group", name="Status")
    for name in ("Failed", "Cancelled"):
        tabs.get_by_role("button", name=name).click()
        expect(nodes).to_have_count(1)
    tabs.get_by_role("button", name="Completed").click()
    page.get_by_label("Search").fill("n59")
    expect(nodes).to_have_count(1)
    page.get_by_label("Search").fill("")
    tabs.get_by_role("button", name="All").click()
    expect(nodes.nth(2)).to_be_visible()
    page.goto(f"/dashboard#/workflows/{things['running_workflow']}")
    tabs.get_by_role("button", name="Processing").click()
    expect(nodes).to_have_count(1)
    nodes.click()
    expect(badge(page)).to_have_text("processing")


def test_more_questions_than_a_page_are_shown_when_asked_for(page: Page, api: httpx.Client) -> None:
    tasks = [{"type": "order.refund", "payload": {"amount": number}, "tags": ["asks"]} for number in range(51)]
    ids = [one["task_id"] for one in api.post("tasks/batch", json={"tasks": tasks}).json()["results"]]
    page.goto("/dashboard#/waits")
    page.get_by_role("button", name="Show more").click()
    for task_id in (ids[0], ids[-1]):
        expect(page.locator(f'.waits .card[data-task="{task_id}"]')).to_be_visible()
    answered = page.locator(f'.waits .card[data-task="{ids[-1]}"]')
    answered.get_by_label("Pay it back").check()
    answered.get_by_label("Note (optional)").fill("as promised")
    answered.get_by_role("button", name="Answer").click()
    expect(answered).to_have_count(0)
    page.goto(f"/dashboard#/tasks/{ids[-1]}")
    expect(badge(page)).to_have_text("completed")
    assert api.get(f"tasks/{ids[-1]}").json()["result"]["approve"] is True
    api.post("bulk", json={"action": "cancel", "filter": {"tag": "asks", "status": ["waiting"]}})


def test_requests_are_chosen_by_how_far_they_are(browser: Browser, page: Page, url: str, api: httpx.Client) -> None:
    def ask(word: str) -> str:
        return submit(api, {"type": "remote", "payload": {"data": {"word": word}}}, queue="by-hand", max_retries=0)

    page.goto("/dashboard#/requests")
    tabs = page.get_by_role("group", name="Status")

    def seen(tab: str, *words: str) -> None:
        tabs.get_by_role("button", name=tab).click()
        expect(rows(page)).to_have_count(len(words))
        for word in words:
            expect(rows(page).filter(has_text=word)).to_be_visible()

    with watched_page(browser, url) as worker:
        worker.goto("/test-worker")
        worker.get_by_label("Group").fill("by-hand")
        worker.get_by_role("button", name="Connect").click()
        ask("mars")
        task = worker.locator(".task:not(.ended)")
        expect(task).to_contain_text("mars")
        ask("venus")
        seen("Running", "mars")
        seen("Waiting", "venus")
        task.get_by_role("button", name="Complete").click()
        expect(task).to_contain_text("venus")
        task.get_by_role("button", name="Fail").click()
        expect(worker.locator(".task:not(.ended)")).to_have_count(0)
    seen("Completed", "mars")
    seen("Failed", "venus")
    seen("All", "mars", "venus")


def test_a_request_that_only_the_live_stream_has_told_of_shows_what_was_asked(page: Page, api: httpx.Client) -> None:
    waiting = {"type": "remote", "status": "pending,waiting,scheduled,retrying"}
    before = api.get("tasks", params=waiting).json()
    page.goto("/dashboard#/requests")
    submit(api, {"type": "remote", "payload": {"data": {"word": "neptune"}}}, queue="by-nobody")
    asked = rows(page).filter(has_text="neptune")
    expect(asked).to_be_visible()
    # The history is behind the live stream.
    page.route(re.compile(r"/api/v1/tasks\?.*status=pending"), lambda route: route.fulfill(json=before), times=1)
    with page.expect_response(re.compile("status=pending")):
        page.get_by_role("group", name="Status").get_by_role("button", name="Waiting").click()
    expect(asked).to_be_visible()
    api.post("bulk", json={"action": "cancel", "filter": {"queue": "by-nobody", "status": ["pending"]}})


def test_groups_are_paused_and_limited_on_a_phone(browser: Browser, url: str, api: httpx.Client) -> None:
    submit(api, MAIL, queue="handy")
    options: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    with watched_page(browser, url, permissions=["clipboard-read", "clipboard-write"], **options) as page:
        page.goto("/dashboard#/groups")
        group = page.locator('tr[data-group="handy"]')
        for name in ("Limit", "Pause"):
            expect(group.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
        group.get_by_role("button", name="Pause").tap()
        page.get_by_label("Note").fill("on the road")
        page.get_by_role("dialog").get_by_role("button", name="Pause").tap()
        expect(group).to_contain_text("on the road")
        assert api.get("groups/handy").json()["paused"]["note"] == "on the road"
        group.get_by_role("button", name="Resume").tap()
        expect(group.get_by_role("button", name="Pause")).to_be_visible()
        assert api.get("groups/handy").json()["paused"] is None
        group.get_by_role("button", name="Limit").tap()
        page.get_by_label("Running at once").fill("2")
        page.get_by_role("dialog").get_by_role("button", name="Set").tap()
        expect(group).to_contain_text("at most 2 running")
        assert api.get("groups/handy").json()["limits"]["max_running"] == 2
        page.get_by_role("button", name="Copy the command").tap()
        expect(page.get_by_text("Command copied")).to_be_visible()
        assert copied(page).startswith("celeriac groups pause")


def test_definitions_are_changed_on_a_phone(browser: Browser, url: str, api: httpx.Client) -> None:
    made = define(api, "on the road")
    options: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    with watched_page(browser, url, **options) as page:
        page.goto("/dashboard#/definitions")
        row = page.locator("tbody tr", has_text="on the road")
        open_menu = row.get_by_role("button", name="Actions of on the road")

        def act(name: str) -> None:
            open_menu.tap()
            one = page.locator("[popover]:popover-open").get_by_role("button", name=name)
            expect(one).to_be_in_viewport(ratio=1)
            one.tap()

        act("Pause")
        expect(row).to_contain_text("paused")
        assert api.get(f"definitions/{made}").json()["status"] == "PAUSED"
        act("Resume")
        expect(row).to_contain_text("active")
        act("Run now")
        expect(page.get_by_text("An instance was started")).to_be_visible()
        assert api.get(f"definitions/{made}/instances").json()["items"]
        act("Edit")
        form = page.get_by_role("dialog", name="Edit on the road")
        form.get_by_label("Name").fill("on the road again")
        form.get_by_role("button", name="Save").tap()
        expect(page.locator("tbody tr", has_text="on the road again")).to_be_visible()
        assert api.get(f"definitions/{made}").json()["name"] == "on the road again"
        page.locator("tbody tr", has_text="on the road again").get_by_role("button").first.tap()
        page.locator("[popover]:popover-open").get_by_role("button", name="Cancel").tap()
        page.get_by_role("dialog").get_by_role("button", name="Cancel definition").tap()
        expect(page.locator("tbody tr", has_text="on the road again")).to_contain_text("cancelled")
        assert api.get(f"definitions/{made}").json()["status"] == "CANCELLED"


def test_more_definitions_than_a_page_are_shown_when_asked_for(page: Page, api: httpx.Client) -> None:
    for number in range(100):
        define(api, f"one of many {number}", paused=True)
    page.goto("/dashboard#/definitions")
    expect(page.locator("tbody tr")).to_have_count(100)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("tbody tr").nth(101)).to_be_visible()
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_forms_are_left_without_a_trace(page: Page, api: httpx.Client) -> None:
    for address, name, heading in (
        ("tasks", "New task", "New task"),
        ("definitions", "New definition", "New definition"),
        ("limits", "New rule", "New rule"),
    ):
        before = [len(api.get(path).json()["items"]) for path in ("definitions", "limits")]
        page.goto(f"/dashboard#/{address}")
        page.get_by_role("button", name=name).first.click()
        form = page.get_by_role("dialog", name=heading)
        form.get_by_role("button", name="Cancel").click()
        expect(form).to_have_count(0)
        expect(page).to_have_url(re.compile(f"#/{address}$"))
        assert [len(api.get(path).json()["items"]) for path in ("definitions", "limits")] == before


def test_a_definition_is_made_with_a_form_for_a_user(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/definitions")
    page.get_by_role("button", name="New definition").click()
    form = page.get_by_role("dialog", name="New definition")
    form.get_by_label("Name").fill("charged each day")
    form.get_by_label("User").fill("grace")
    form.get_by_label("Type").select_option("card.charge")
    form.get_by_role("button", name="JSON").click()
    form.get_by_label("Payload, as JSON").fill('{"amount": 1, "card": "4242"}')
    form.get_by_role("button", name="Form").click()
    expect(form.get_by_role("textbox", name="Card")).to_have_value("4242")
    form.get_by_role("textbox", name="Amount").fill("12.5")
    form.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="charged each day")).to_be_visible()
    made = api.get(f"definitions/{page.url.rpartition('/')[2]}").json()
    assert made["user_id"] == "grace"
    assert made["task"] == {"type": "card.charge", "payload": {"amount": 12.5, "card": "4242"}}


def test_a_rule_is_made_that_keeps_the_order(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/limits")
    page.get_by_role("button", name="New rule").click()
    form = page.get_by_role("dialog", name="New rule")
    form.get_by_label("Name").fill("in-order")
    form.get_by_label("Type").fill("card.charge")
    form.get_by_label("Count").select_option("Each key by itself")
    form.get_by_label("One task of a key at a time").check()
    form.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_text("Command copied")).to_be_visible()
    assert copied(page) == "celeriac limits set in-order --type card.charge --by key --ordered"
    form.get_by_role("button", name="Create").click()
    expect(page.locator('tr[data-rule="in-order"]')).to_contain_text("one at a time, in order")
    rule = api.get("limits/in-order").json()
    assert (rule["type"], rule["by"], rule["ordered"]) == ("card.charge", "key", True)
    held: list[Route] = []
    page.route("**/api/v1/limits/in-order", lambda route: held.append(route), times=1)
    page.locator('tr[data-rule="in-order"]').get_by_role("link").click()
    expect(page.get_by_role("heading", name="in-order")).to_be_visible()
    edit = page.get_by_role("button", name="Edit")
    expect(edit).to_be_hidden()  # there is nothing to edit before the rule has come
    while not held:
        page.wait_for_timeout(50)
    held[0].continue_()
    edit.click()
    page.get_by_role("dialog").get_by_label("Note").fill("the bank wants it")
    page.get_by_role("dialog").get_by_role("button", name="Set").click()
    expect(page.locator(".facts")).to_contain_text("the bank wants it")
    assert api.get("limits/in-order").json()["note"] == "the bank wants it"
    sorts = page.get_by_role("group", name="Sort by")
    for name in ("Most running", "Most waiting"):
        sorts.get_by_role("button", name=name).click()
        expect(sorts.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Copy the command").click()
    while "--note 'the bank wants it'" not in copied(page):
        page.wait_for_timeout(50)
    page.get_by_role("link", name="Its tasks").click()
    expect(page).to_have_url(re.compile("#/tasks\\?type=card.charge"))
    api.delete("limits/in-order")


def test_what_a_task_has_is_copied(page: Page, things: dict[str, str], api: httpx.Client) -> None:
    page.goto(f"/dashboard#/tasks/{things['completed']}")
    expect(badge(page)).to_have_text("completed")
    for heading, said, value in (
        ("Result", "Result copied", api.get(f"tasks/{things['completed']}").json()["result"]),
        ("Payload", "Payload copied", MAIL["payload"]),
        ("Metadata", "Metadata copied", {"source": "walk"}),
    ):
        card(page, heading).get_by_role("button", name="Copy", exact=True).click()
        expect(page.get_by_text(said)).to_be_visible()
        assert json.loads(copied(page)) == value
    page.get_by_role("button", name="Copy the id").click()
    expect(page.get_by_text("Id copied")).to_be_visible()
    assert copied(page) == things["completed"]
    page.goto(f"/dashboard#/tasks/{things['scheduled']}")
    page.locator(".why-box").get_by_role("button", name="Copy the command").click()
    expect(page.get_by_text("Command copied")).to_be_visible()
    assert copied(page) == f"celeriac why {things['scheduled']}"
    page.goto(f"/dashboard#/tasks/{things['flaky']}")
    log = card(page, "Log")
    for level, left in (("info", "warning"), ("warning", "error")):
        log.get_by_role("button", name=level).click()
        expect(log.get_by_role("button", name=level)).to_have_attribute("aria-pressed", "false")
        expect(log.locator(f'.task-log li[data-level="{level}"]')).to_have_count(0)
        expect(log.locator(f'.task-log li[data-level="{left}"]').first).to_be_visible()
    log.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_text("Log copied")).to_be_visible()
    assert len(copied(page).splitlines()) >= 1
    assert "looking for the supplier" not in copied(page)
    log.get_by_role("button", name="error").click()
    expect(log).to_contain_text("No line matches")
    for level in ("error", "warning", "info"):
        log.get_by_role("button", name=level).click()
    log.get_by_label("Search the log").fill("supplier")
    expect(log.locator(".task-log li").first).to_contain_text("looking for the supplier")


def test_what_is_long_is_shown_on_demand(page: Page, things: dict[str, str]) -> None:
    page.goto(f"/dashboard#/tasks/{things['noisy']}")
    steps = card(page, "Steps")
    expect(steps.get_by_text("step-0", exact=True)).to_be_visible()
    expect(steps.get_by_text("step-39", exact=True)).to_have_count(0)
    steps.get_by_role("button", name="Show 30 more").click()
    expect(steps.get_by_text("step-39", exact=True)).to_be_visible()
    page.goto(f"/dashboard#/tasks/{things['large']}")
    result = card(page, "Result")
    result.get_by_label("Search in the value").fill("2999")
    expect(result.get_by_role("status")).to_have_text("1 place")
    result.get_by_label("Search in the value").fill("")
    tree = result.locator(".tree").first
    orders = tree.locator("li").filter(has=page.get_by_text("orders")).first
    expect(orders.get_by_text("24: ")).to_be_visible()
    tree.get_by_role("button", name=re.compile("^Show 2,9.. more")).click()
    expect(tree.get_by_text("30: ")).to_be_visible()
    tree.get_by_text("a value").or_(tree.locator("summary").filter(has_text="30: ")).first.click()
    expect(tree.get_by_text("xxxxx").first).to_be_visible()


def test_a_failed_task_is_retried_as_it_is(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, DECLINED)
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(badge(page)).to_have_text("failed")
    page.locator(".task-head").get_by_role("button", name="Retry", exact=True).click()
    confirm(page, "Retry")
    expect(page.get_by_role("list", name="Attempts").locator(".wf-row")).to_have_count(2)
    # The second row is there while the attempt waits for its worker.
    assert api.get(f"tasks/{task_id}", params={"wait": 15}).json()["attempt"] == 2


def test_the_original_of_a_file_is_downloaded(page: Page, things: dict[str, str]) -> None:
    page.goto(f"/dashboard#/tasks/{things['file']}")
    expect(badge(page)).to_have_text("failed")
    with page.expect_download() as download:
        page.get_by_role("link", name="Original").click()
    assert download.value.path().read_bytes() == b"no film"


def test_the_reference_is_searched_and_copied_from(page: Page) -> None:
    page.goto("/docs")
    page.get_by_label("Find a route").fill("task-counts")
    # Routes move while others are hidden: a click would meet another one.
    # A click on a route shows it.
    route = page.locator("details.route:visible")
    expect(route).to_have_count(1)
    route.locator("summary").first.click()
    expect(route).to_contain_text("Answer 200")
    route.get_by_role("button", name="Copy").first.click()
    while "/api/v1/task-counts" not in copied(page):
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_tasks_are_filtered_on_a_phone(browser: Browser, url: str, api: httpx.Client) -> None:
    submit(api, MAIL, tags=["folded"])
    with watched_page(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        page.goto("/dashboard#/tasks?tag=folded")
        expect(rows(page)).to_have_count(1)
        filters = page.get_by_role("button", name="Filters (1)")
        expect(filters).to_have_attribute("aria-expanded", "false")
        filters.tap()
        page.get_by_label("Type").select_option("order.refund")
        expect(page.get_by_text("No task matches")).to_be_visible()
        expect(page.get_by_role("button", name="Filters (2)")).to_have_attribute("aria-expanded", "true")


def test_errors_are_chosen_by_their_words(page: Page, things: dict[str, str]) -> None:
    page.goto("/dashboard#/errors")
    errors = page.locator(".errors li")
    page.get_by_label("Words of the message or the code").fill("bank declined")
    expect(errors).to_have_count(1)
    expect(page).to_have_url(re.compile("q=bank"))


def test_the_rows_of_workflows_are_reached_by_the_keyboard(page: Page, things: dict[str, str]) -> None:
    page.goto("/dashboard#/workflows?name=slow%20figures")
    expect(page.get_by_role("listbox", name="Workflows").locator(".row")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/workflows/{things['running_workflow']}$"))
    expect(page.get_by_role("listbox", name="Nodes").locator(".row")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(badge(page)).to_have_text("processing")


def test_the_tasks_around_one_are_reached_by_the_keyboard(page: Page, things: dict[str, str]) -> None:
    page.goto(f"/dashboard#/tasks/{things['noisy']}")
    around = page.get_by_role("listbox", name="Tasks around this one")
    expect(around.locator(".box").first).to_be_visible()
    around.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(re.compile(things["noisy"]))
    expect(page.get_by_role("heading", name="page.keep")).to_be_visible()


def test_a_task_is_written_in_a_form_and_copied(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/tasks")
    page.get_by_role("button", name="New task").click()
    form = page.get_by_role("dialog", name="New task")
    form.get_by_label("Type").select_option("mail.send")
    form.get_by_role("button", name="Form").click()
    form.get_by_role("textbox", name="To", exact=True).fill("grace@example.org")
    form.get_by_role("textbox", name="Subject").fill("Hello")
    form.get_by_label("Tags").fill("written, copied")
    for name, said in (("curl", "curl command copied"), ("Python", "Python copied"), ("celeriac", "Command copied")):
        form.get_by_role("button", name=name).click()
        expect(page.locator("#notes")).to_contain_text(said)
        assert "grace@example.org" in copied(page)
    form.get_by_role("button", name="Submit").click()
    expect(badge(page)).to_have_text("completed")
    made = api.get(f"tasks/{page.url.rpartition('/')[2]}").json()
    assert made["payload"] == {"to": "grace@example.org", "subject": "Hello"}
    assert made["tags"] == ["written", "copied"]


def test_dialogs_are_left_as_it_is(page: Page, things: dict[str, str], api: httpx.Client) -> None:
    submit(api, MAIL, queue="untouched")
    for address, name in (
        ("groups", "Limit"),
        ("groups", "Pause"),
        (f"tasks/{things['failed']}", "Edit and retry"),
        (f"tasks/{things['completed']}", "Run again"),
    ):
        page.goto(f"/dashboard#/{address}")
        place = page.locator('tr[data-group="untouched"]') if address == "groups" else page.locator(".task-head")
        place.get_by_role("button", name=name).click()
        page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        if address != "groups":
            expect(page).to_have_url(re.compile(address))
    group = api.get("groups/untouched").json()
    assert (group["paused"], group["limits"]) == (None, None)
    assert api.get(f"tasks/{things['failed']}").json()["attempt"] == 1


def test_the_results_of_the_palette_are_pressed(page: Page) -> None:
    page.goto("/dashboard#/limits")
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    page.get_by_role("button", name="Go to or do").click()
    page.get_by_role("combobox", name="Go to or do").fill("definit")
    page.get_by_role("listbox", name="Results").get_by_role("option", name="Definitions").first.click()
    expect(page).to_have_url(re.compile("#/definitions$"))
