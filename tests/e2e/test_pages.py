"""The dashboard in a real browser, on a real platform with a real worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

VIEWS = (
    *("overview", "tasks", "errors", "types", "workflows", "waits", "requests"),
    *("groups", "limits", "workers", "definitions"),
)
#: How many rows of the list are wider than it.
CUT = "[...document.querySelectorAll('.row')].filter((row) => row.scrollWidth > row.clientWidth).length"
#: A page that opens slowly would read again what it reads every few seconds.
NOTHING_LATER = """
const every = window.setInterval;
window.setInterval = (act, ms, ...more) => (ms < 4000 ? every(act, ms, ...more) : 0);
"""

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("pages")) as address:
        yield address


def submit(api: httpx.Client, type: str, payload: dict[str, Any], **more: Any) -> str:
    """Submit a task; returns its id."""
    answer = api.post("tasks", json={"type": type, "payload": payload, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def submit_many(api: httpx.Client, tasks: list[dict[str, Any]]) -> None:
    for start in range(0, len(tasks), 1000):
        answer = api.post("tasks/batch", json={"tasks": tasks[start : start + 1000]})
        assert {result["status"] for result in answer.json()["results"]} == {202}


def behind(api: httpx.Client) -> int:
    """How many events the history has not recorded yet."""
    return int(httpx.get(api.base_url.join("/readyz"), timeout=60).json()["parts"]["ledger"]["behind_events"])


def badge(page: Page) -> Any:
    """The status of the task whose page is open."""
    return page.locator(".task-head .status")


def rows(page: Page) -> Any:
    return page.locator(".list .row")


def test_the_overview_tells_how_the_platform_is_doing(page: Page, api: httpx.Client) -> None:
    submit_many(api, [{"type": "mail.send", "payload": {"to": "ada@example.org"}} for _ in range(20)])
    page.goto("/")
    expect(page).to_have_url(re.compile("/dashboard$"))
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    expect(page.locator(".counter", has_text="Workers online").locator(".value")).to_have_text("1")
    expect(page.get_by_role("img", name="Tasks ended").locator("rect.good").first).to_be_visible()
    expect(page.locator(".depths")).to_contain_text("mail")


@pytest.mark.parametrize(("view", "wanted"), [("overview", ".chart svg rect"), ("tasks", ".list .row")])
def test_a_page_asks_for_nothing_twice_when_it_opens(page: Page, api: httpx.Client, view: str, wanted: str) -> None:
    submit(api, "mail.send", {"to": "ada@example.org"})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(NOTHING_LATER)
    page.goto(f"/dashboard#/{view}")
    expect(page.locator(wanted).first).to_be_attached()
    # The menu counts failures when the live stream has told the state.
    page.wait_for_function("document.querySelector('.link-state').dataset.state === 'live'")
    page.wait_for_timeout(1000)
    asked = [address for address in asked if re.search(r"/static/|/session|/errors\?|/waits|/tasks\?|/stats", address)]
    assert len(asked) > 12
    assert sorted({address for address in asked if asked.count(address) > 1}) == []
    paths = [address.partition("?")[0] for address in asked if "/api/" in address]
    assert sorted({path for path in paths if paths.count(path) > 1}) == []


def test_tasks_are_filtered_and_the_address_keeps_the_filter(page: Page, api: httpx.Client) -> None:
    mine = submit(api, "mail.send", {"to": "grace@example.org"}, tags=["filtered"], user_id="grace")
    submit(api, "report.render", {"customer": 1, "pages": 1}, tags=["filtered"])
    page.goto("/dashboard#/tasks?tag=filtered")
    expect(rows(page)).to_have_count(2)
    page.get_by_label("Type").select_option("mail.send")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("mail.send")
    page.get_by_role("button", name="Completed").click()
    expect(rows(page)).to_have_count(1)
    page.reload()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Failed").click()
    expect(page.get_by_text("No task matches")).to_be_visible()
    page.get_by_role("button", name="Show all tasks").click()
    page.get_by_label("Search").fill(mine[:12])
    expect(rows(page)).to_have_count(1)


def test_a_new_task_appears_without_being_asked_for(page: Page, api: httpx.Client) -> None:
    page.goto("/dashboard#/tasks?tag=pushed")
    expect(page.get_by_text("No task matches")).to_be_visible()
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    submit(api, "mail.send", {"to": "ada@example.org"}, tags=["pushed"])
    expect(rows(page)).to_have_count(1)
    expect(rows(page).locator(".status")).to_have_text("completed")


def test_a_task_is_watched_from_its_progress_to_its_result(page: Page, api: httpx.Client) -> None:
    # An ended task has no bar: its group, which a first task makes known, is held back until the page is open.
    submit(api, "report.render", {"customer": 7, "pages": 1}, queue="watched")
    assert api.post("groups/watched/pause", json={}).status_code == 200
    task_id = submit(api, "report.render", {"customer": 7, "pause_s": 1.5, "pages": 12}, queue="watched")
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(badge(page)).to_have_text("pending")
    assert api.post("groups/watched/resume").status_code == 200
    bar = page.get_by_role("progressbar", name="progress of the task")
    expect(bar).to_have_attribute("aria-valuenow", re.compile("^[1-9][0-9]?$"))
    expect(page.locator(".progress-line")).to_contain_text("rendering")
    expect(badge(page)).to_have_text("completed")
    # Where the time went says more than "100 %".
    expect(bar).to_have_count(0)
    expect(page.locator(".card", has=page.get_by_role("heading", name="Result"))).to_contain_text('"pages": 12')
    page.get_by_text("All events with exact times").click()
    table = page.locator(".events-table")
    expect(table).to_contain_text("Started")
    expect(table).to_contain_text("Completed")


def test_a_running_task_is_cancelled_once_that_is_confirmed(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "report.render", {"customer": 7, "pause_s": 60})
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(badge(page)).to_have_text("processing")
    page.get_by_role("button", name="Cancel task").click()
    page.get_by_role("button", name="Keep as it is").click()
    expect(badge(page)).to_have_text("processing")
    page.get_by_role("button", name="Cancel task").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel task").click()
    expect(badge(page)).to_have_text("cancelled")


def test_a_dead_letter_runs_again_with_another_payload(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "card.charge", {"amount": 12, "card": "4000"}, tags=["declined"])
    page.goto("/dashboard#/tasks?tag=declined")
    page.locator(f'.row[data-id="{task_id}"]').click()
    expect(badge(page)).to_have_text("failed")
    expect(page.locator(".error-text").first).to_contain_text("the bank declined the card")
    page.get_by_role("button", name="Edit and retry").click()
    page.get_by_role("textbox", name="Payload").fill('{"amount": 12, "card": "4242"}')
    page.get_by_role("button", name="Retry with this payload").click()
    expect(badge(page)).to_have_text("completed")
    expect(page.locator(".task-body")).to_contain_text('"charged": 12')


def test_all_dead_letters_that_match_are_retried_at_once(page: Page, api: httpx.Client) -> None:
    submit_many(
        api, [{"type": "card.charge", "payload": {"amount": n, "card": "4000"}, "queue": "bulky"} for n in range(4)]
    )
    # The address that errors had.
    page.goto("/dashboard#/dead?queue=bulky")
    expect(page.get_by_role("status").filter(has_text="4 failed")).to_be_visible()
    while behind(api):
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Retry all of these").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry 4").click()
    jobs = page.locator(".card", has=page.get_by_role("heading", name="Bulk operations"))
    expect(jobs).to_contain_text("4 of 4")


def test_a_group_is_limited_and_lifted(page: Page, api: httpx.Client) -> None:
    submit(api, "mail.send", {"to": "ada@example.org"}, queue="slow")
    page.goto("/dashboard#/groups")
    group = page.locator('tr[data-group="slow"]')
    group.get_by_role("button", name="Limit").click()
    page.get_by_label("Running at once").fill("3")
    page.get_by_label("Starts per time").fill("100/m")
    page.get_by_label("Note for other operators (optional)").fill("as agreed")
    page.get_by_role("dialog").get_by_role("button", name="Set").click()
    expect(group).to_contain_text("at most 3 running · at most 100/m starting · as agreed")
    expect(group.locator("td").nth(3)).to_have_text(re.compile("^[0-3] of 3$"))
    assert api.get("groups/slow").json()["limits"]["rate"] == "100/m"
    group.get_by_role("button", name="Limit").click()
    page.get_by_label("Running at once").fill("")
    page.get_by_label("Starts per time").fill("")
    page.get_by_role("dialog").get_by_role("button", name="Set").click()
    expect(group).not_to_contain_text("at most")
    assert api.get("groups/slow").json()["limits"] is None


def test_a_group_is_paused_and_goes_on(page: Page, api: httpx.Client) -> None:
    first = submit(api, "mail.send", {"to": "ada@example.org"}, queue="held")
    assert api.get(f"tasks/{first}", params={"wait": 15}).json()["status"] == "completed"
    page.goto("/dashboard#/groups")
    group = page.locator('tr[data-group="held"]')
    group.get_by_role("button", name="Pause").click()
    page.get_by_label("Note for other operators (optional)").fill("the relay is down")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(group).to_contain_text("the relay is down")
    task_id = submit(api, "mail.send", {"to": "ada@example.org"}, queue="held")
    expect(group.locator("td").nth(1)).to_have_text("1")
    assert api.get(f"tasks/{task_id}").json()["status"] == "pending"
    group.get_by_role("button", name="Resume").click()
    expect(group.get_by_role("button", name="Pause")).to_be_visible()
    page.goto(f"/dashboard#/tasks/{task_id}")
    expect(badge(page)).to_have_text("completed")
    assert api.get(f"tasks/{task_id}").json()["attempt"] == 1


def test_workers_show_what_they_have_in_hand(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "report.render", {"customer": 3, "pause_s": 60})
    page.goto("/dashboard#/workers")
    link = page.locator(f'.worker a[href="#/tasks/{task_id}"]')
    expect(link).to_contain_text("report.render")
    api.post(f"tasks/{task_id}/cancel")
    expect(link).to_have_count(0)


def test_everything_is_within_reach_of_the_keyboard(page: Page, api: httpx.Client) -> None:
    for _ in range(3):
        submit(api, "mail.send", {"to": "ada@example.org"}, tags=["keys"])
    page.goto("/dashboard#/tasks?tag=keys")
    expect(rows(page)).to_have_count(3)
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    # The suggestions close first.
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Search")).not_to_be_focused()
    for key in ("j", "j", "k", "ArrowDown"):
        page.keyboard.press(key)
    chosen = page.locator(".row[data-current]")
    expect(chosen).to_have_count(1)
    task_id = chosen.get_attribute("data-id")
    # Screen readers are told, too.
    expect(page.get_by_role("listbox", name="Tasks")).to_have_attribute("aria-activedescendant", f"row-{task_id}")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/tasks/{task_id}$"))
    # The list is there until the page of the task has come.
    expect(badge(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(rows(page)).to_have_count(3)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone(browser: Browser, url: str, api: httpx.Client, scheme: str) -> None:
    task_id = submit(api, "card.charge", {"amount": 12, "card": "4000" + "0" * 200})
    options: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "has_touch": True}
    with watched_page(browser, url, **options) as page:
        for path in (*(f"/dashboard#/{view}" for view in VIEWS), f"/dashboard#/tasks/{task_id}", "/docs"):
            page.goto(path)
            expect(page.locator("h1").first).to_be_visible()
            expect(page.locator("html")).to_have_attribute("data-theme", scheme)
            page.wait_for_load_state("load")
            wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= seen, f"{path} is {wide} pixels wide"


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_long_names_stay_inside_the_window(browser: Browser, url: str, api: httpx.Client, width: int) -> None:
    group = "g" * 128
    payload = {"amount": 12, "card": "4000" + "0" * 3000}
    task_id = submit(api, "card.charge", payload, queue=group, user_id="u" * 256, tags=["t" * 64], key="k" * 128)
    # Nobody serves it, and the overview says so.
    submit(api, "remote", {"data": {"n": 1}}, queue="r" * 128)
    definition = {"user_id": "u" * 256, "name": "d" * 200, "content": "c" * 2000, "trigger_type": "LOOP"}
    made = api.post("definitions", json={**definition, "trigger_args": {"interval": 86_400}, "paused": True})
    rule = "n" * 128
    covered = {"group": group, "type": "t" * 200, "by": "key", "note": "o" * 2000}
    limits = {"max_running": 100_000, "rate": "600000/m", "fair": True, "ordered": True, "max_waiting": 10_000_000}
    set_rule = api.put(f"limits/{rule}", json={**covered, **limits})
    assert set_rule.is_success, set_rule.text
    with watched_page(browser, url, viewport={"width": width, "height": 900}) as page:
        for path, seen in (
            ("overview", ".counter .more:has-text('no worker for rrr')"),
            (f"tasks?queue={group}", ".list .row"),
            (f"tasks/{task_id}", ".facts"),
            ("groups", f'tr[data-group="{group}"]'),
            ("limits", f'tr[data-rule="{rule}"]'),
            (f"limits/{rule}", ".facts"),
            ("workers", ".worker"),
            ("errors", ".errors li"),
            ("types/card.charge", ".type-head .chip"),
            ("definitions", "tbody tr"),
            (f"definitions/{made.json()['task_def_id']}", ".facts"),
        ):
            page.goto(f"/dashboard#/{path}")
            expect(page.locator(seen).first).to_be_visible()
            wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= window, f"{path} is {wide} pixels wide"
            cut = page.evaluate(
                "[...document.querySelectorAll('.row')].filter((r) => r.scrollWidth > r.clientWidth).length"
            )
            assert cut == 0, f"{path}: {cut} rows are cut off"


def test_a_tasks_log_grows_while_it_runs(page: Page, api: httpx.Client) -> None:
    # The group, which its first task makes known, is held back until the page is open.
    first = submit(api, "report.render", {"customer": 7, "pages": 1}, queue="log-readers")
    page.goto(f"/dashboard#/tasks/{first}")
    expect(badge(page)).to_have_text("completed")
    assert api.post("groups/log-readers/pause", json={}).status_code == 200
    task_id = submit(api, "report.render", {"customer": 7, "pages": 4, "pause_s": 0.5}, queue="log-readers")
    page.goto(f"/dashboard#/tasks/{task_id}")
    lines = page.locator(".task-log li")
    expect(badge(page)).to_have_text("pending")
    expect(lines).to_have_count(0)
    assert api.post("groups/log-readers/resume").status_code == 200
    expect(lines.first).to_contain_text("rendering a page page=1")
    expect(lines).to_have_count(4)
    expect(badge(page)).to_have_text("completed")
    expect(page.get_by_text("4 lines")).to_be_visible()


def test_why_a_task_failed_is_in_its_log(page: Page, api: httpx.Client) -> None:
    task_id = submit(api, "card.charge", {"amount": 12, "card": "4000" + "0" * 500})
    page.goto(f"/dashboard#/tasks/{task_id}")
    said = page.locator(".task-log li")
    expect(said).to_have_count(2)
    expect(said.nth(0)).to_contain_text("the bank said no")
    expect(said.nth(1)).to_contain_text("the bank declined the card")
    expect(said.nth(1)).to_have_attribute("data-level", "error")
    # One attempt needs no name; a second one says where it begins.
    expect(page.locator(".task-log .attempt")).to_have_count(0)
    page.get_by_role("button", name="Retry", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(said).to_have_count(4)
    expect(page.locator(".task-log .attempt")).to_have_text(["attempt 2"])
    expect(said.nth(2)).to_contain_text("attempt 2")
    # Also where somebody else retries what had ended before the page was opened.
    page.reload()
    expect(said).to_have_count(4)
    expect(badge(page)).to_have_text("failed")
    assert api.post(f"tasks/{task_id}/retry").status_code == 202
    expect(said).to_have_count(6)
    expect(page.locator(".task-log .attempt")).to_have_text(["attempt 2", "attempt 3"])


def test_nothing_moves_for_who_wants_no_motion(browser: Browser, url: str) -> None:
    for wish, animation in (("no-preference", "breathe"), ("reduce", "none")):
        with watched_page(browser, url, reduced_motion=wish) as page:
            page.goto("/dashboard")
            expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
            expect(page.locator(".link-state i")).to_have_css("animation-name", animation)


def test_the_theme_is_changed_and_kept(page: Page) -> None:
    page.goto("/dashboard")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_five_thousand_rows_cost_what_fits_the_screen(page: Page, api: httpx.Client) -> None:
    tasks = [{"type": "mail.send", "payload": {"to": "ada@example.org"}, "delay": "1h", "tags": ["many"]}] * 5000
    submit_many(api, tasks)
    newest = api.get("tasks", params={"tag": "many", "limit": 1})
    while not newest.json()["items"] or behind(api):
        page.wait_for_timeout(100)
        newest = api.get("tasks", params={"tag": "many", "limit": 1})
    page.goto("/dashboard#/tasks?tag=many")
    expect(rows(page).first).to_be_visible()
    foot = page.locator(".list .foot")
    page.evaluate(
        """() => { const scroller = document.querySelector(".scroller");
        setInterval(() => { scroller.scrollTop = scroller.scrollHeight; }, 30); }"""
    )
    expect(foot).to_contain_text(re.compile(r"^5,000 tasks"), timeout=40_000)
    assert rows(page).count() < 60


def test_the_api_reference_needs_nobody_else(page: Page) -> None:
    page.goto("/docs")
    expect(page.get_by_role("heading", name="API reference")).to_be_visible()
    page.get_by_label("Find a route").fill("groups")
    # Routes move while others are hidden: a click would meet another one.
    expect(page.locator("details.route:visible").first).to_contain_text("/api/v1/groups")
    route = page.locator("details.route:visible", has_text="/api/v1/groups").first
    route.locator("summary").click()
    expect(route).to_contain_text("curl -s")
    route.get_by_role("button", name="Try it").click()
    expect(route).to_contain_text("Answered 200")
