"""The pages of workflows in a real browser, on a real platform with a real worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

#: The largest number of elements that a graph may have, however many nodes there are.
ELEMENTS = 3500
#: Tasks that put others in their place.
REPLACING = "tests.kit.workers.celery_replacing"

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("workflows"), REPLACING) as address:
        yield address


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=30) as client:
        yield client


Nodes = dict[str, dict[str, Any]]


def submit(api: httpx.Client, name: str, nodes: Nodes) -> dict[str, Any]:
    """Submit a workflow; returns the answer."""
    answer = api.post("workflows", json={"name": name, "nodes": nodes})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def mail(*after: Any, **more: Any) -> dict[str, Any]:
    return {"type": "mail.send", "payload": {"to": "ada@example.org"}, "after": list(after), **more}


def render(*after: Any, **more: Any) -> dict[str, Any]:
    return {"type": "report.render", "payload": {"customer": 7, "pages": 1}, "after": list(after), **more}


def charge(card: str, *after: Any) -> dict[str, Any]:
    return {"type": "card.charge", "payload": {"amount": 12, "card": card}, "after": list(after)}


def hold(api: httpx.Client, group: str) -> None:
    """Pause a group, which its first task makes known."""
    known = api.post("tasks", json={"type": "mail.send", "payload": {"to": "ada@example.org"}, "queue": group})
    assert known.status_code == 202, known.text
    assert api.post(f"groups/{group}/pause", json={}).status_code == 200


def box(page: Page, key: str) -> Locator:
    """The box of a node, or of several: `node:NAME`, `alike:FIRST`, `run:FIRST`."""
    return page.locator(f'.graph [data-key="{key}"]')


def badge(page: Page) -> Locator:
    return page.locator(".task-head .status")


def elements(page: Page) -> int:
    return int(page.locator(".graph *").count())


def test_a_graph_follows_each_node_until_the_end(page: Page, api: httpx.Client) -> None:
    hold(api, "held-graph")
    nodes = {"fetch": mail(), "render": render("fetch", queue="held-graph"), "send": mail("render")}
    workflow = submit(api, "monthly report", nodes)["workflow_id"]
    page.goto(f"/dashboard#/workflows/{workflow}")
    expect(page.get_by_role("heading", name="monthly report")).to_be_visible()
    expect(box(page, "node:fetch")).to_have_attribute("data-status", "completed")
    expect(box(page, "node:render")).to_have_attribute("data-status", "pending")
    expect(box(page, "node:send")).to_have_attribute("data-status", "waiting")
    expect(badge(page)).to_have_text("running")
    expect(page.locator(".nodes .row", has=page.get_by_title("send", exact=True))).to_contain_text("waits for render")
    assert api.post("groups/held-graph/resume").status_code == 200
    expect(box(page, "node:send")).to_have_attribute("data-status", "completed")
    expect(badge(page)).to_have_text("completed")
    expect(page.locator(".sums")).to_contain_text("3 nodes: 3 completed")
    expect(page.locator(".sums")).to_contain_text("Took")


def test_what_a_node_waits_for_and_what_waits_for_it_is_beside_the_graph(page: Page, api: httpx.Client) -> None:
    nodes = {
        "charge": charge("4000"),
        "receipt": mail("charge"),
        "sorry": mail({"node": "charge", "when": "failed"}),
    }
    workflow = submit(api, "order", nodes)
    page.goto(f"/dashboard#/workflows/{workflow['workflow_id']}")
    expect(box(page, "node:sorry")).to_have_attribute("data-status", "completed")
    expect(box(page, "node:receipt")).to_have_attribute("data-status", "cancelled")
    box(page, "node:charge").click()
    details = page.locator(".node-details")
    expect(details).to_contain_text("the bank declined the card")
    details.get_by_role("button", name="sorry").click()
    expect(details).to_contain_text("must fail")
    details.get_by_role("link", name="Open the task").click()
    expect(page).to_have_url(re.compile(f"#/tasks/{workflow['nodes']['sorry']}$"))


def test_a_failed_workflow_runs_again(page: Page, api: httpx.Client) -> None:
    nodes = {"charge": {**charge("4000"), "queue": "held-retry"}, "receipt": mail("charge")}
    workflow = submit(api, "retried", nodes)
    page.goto(f"/dashboard#/workflows/{workflow['workflow_id']}")
    expect(badge(page)).to_have_text("failed")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_text("The workflow runs again")).to_be_visible()
    # The page may say yet how it ended the first time.
    while (charged := api.get(f"tasks/{workflow['nodes']['charge']}").json())["attempt"] == 1:
        page.wait_for_timeout(100)
    while api.get(f"workflows/{workflow['workflow_id']}").json()["status"] == "running":
        page.wait_for_timeout(100)
    expect(badge(page)).to_have_text("failed")
    assert charged["attempt"] == 2
    # Also when another user retries it, after its stream has ended.
    assert api.post("groups/held-retry/pause", json={}).status_code == 200
    assert api.post(f"workflows/{workflow['workflow_id']}/retry").status_code == 202
    expect(badge(page)).to_have_text("running")
    expect(box(page, "node:receipt")).to_have_attribute("data-status", "waiting")
    assert api.post("groups/held-retry/resume").status_code == 200
    expect(badge(page)).to_have_text("failed")


def test_a_workflow_is_cancelled_once_that_is_confirmed(page: Page, api: httpx.Client) -> None:
    hold(api, "held-cancel")
    workflow = submit(api, "stopped", {"fetch": mail(queue="held-cancel"), "send": mail("fetch")})["workflow_id"]
    page.goto(f"/dashboard#/workflows/{workflow}")
    expect(badge(page)).to_have_text("running")
    page.get_by_role("button", name="Cancel workflow").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel workflow").click()
    expect(badge(page)).to_have_text("cancelled")
    expect(box(page, "node:send")).to_have_attribute("data-status", "cancelled")


def test_a_node_that_is_added_appears(page: Page, api: httpx.Client) -> None:
    hold(api, "held-added")
    workflow = submit(api, "growing", {"fetch": mail(queue="held-added")})["workflow_id"]
    page.goto(f"/dashboard#/workflows/{workflow}")
    expect(page.locator(".graph .box")).to_have_count(1)
    assert api.post(f"workflows/{workflow}/nodes", json={"nodes": {"send": mail("fetch")}}).status_code == 202
    expect(box(page, "node:send")).to_have_attribute("data-status", "waiting")
    assert api.post("groups/held-added/resume").status_code == 200
    expect(badge(page)).to_have_text("completed")


def test_a_thousand_nodes_are_a_few_boxes_and_unfold(page: Page, api: httpx.Client) -> None:
    hold(api, "held-fan")
    members = [f"mail-{n}" for n in range(998)]
    nodes = {"start": mail(queue="held-fan"), **{name: mail("start") for name in members}, "end": mail(*members)}
    workflow = submit(api, "newsletter", nodes)["workflow_id"]
    page.goto(f"/dashboard#/workflows/{workflow}")
    expect(page.locator(".graph .box")).to_have_count(3)
    folded = box(page, "alike:mail-0")
    expect(folded).to_contain_text("998 × mail.send")
    expect(folded).to_contain_text("998 waiting")
    assert elements(page) < 100
    assert api.post("groups/held-fan/resume").status_code == 200
    expect(badge(page)).to_have_text("completed", timeout=60_000)
    expect(folded).to_contain_text("998 completed")
    folded.click()
    page.get_by_role("button", name="Show the 998 nodes").click()
    expect(box(page, "node:mail-0")).to_be_visible()
    assert elements(page) < ELEMENTS
    page.get_by_role("button", name="Show the whole graph").click()
    # So small, the graph is one shape for each status.
    expect(page.locator(".graph .box")).to_have_count(0)
    expect(page.locator('.graph .far[data-status="completed"]')).to_have_attribute("d", re.compile("^(M[^M]+){1000}$"))
    page.get_by_role("button", name="Fold again").click()
    expect(page.locator(".graph .box")).to_have_count(3)
    assert page.locator(".nodes .row").count() < 60
    page.get_by_label("Search").fill("mail-99")
    expect(page.locator(".nodes .row")).to_have_count(9)


def test_a_graph_is_within_reach_of_the_keyboard(page: Page, api: httpx.Client) -> None:
    workflow = submit(api, "keys", {"first": mail(), "second": mail("first"), "third": mail("second")})
    page.goto(f"/dashboard#/workflows/{workflow['workflow_id']}")
    stage = page.get_by_role("listbox", name="Graph of the workflow")
    expect(box(page, "node:third")).to_be_visible()
    stage.focus()
    for key, name in (
        ("ArrowRight", "first"),
        ("ArrowRight", "second"),
        ("ArrowRight", "third"),
        ("ArrowLeft", "second"),
    ):
        page.keyboard.press(key)
        expect(box(page, f"node:{name}")).to_have_attribute("aria-selected", "true")
        expect(stage).to_have_attribute("aria-activedescendant", str(box(page, f"node:{name}").get_attribute("id")))
    before = page.locator(".graph svg > g").get_attribute("transform")
    page.keyboard.press("+")
    expect(page.locator(".graph svg > g")).not_to_have_attribute("transform", str(before))
    page.keyboard.press("Escape")
    expect(page.locator(".graph [aria-selected=true]")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/tasks/{workflow['nodes']['first']}$"))


def test_a_graph_is_placed_anew_where_the_window_becomes_wide(page: Page, api: httpx.Client) -> None:
    workflow = submit(api, "turned", {"fetch": mail(), "left": mail("fetch"), "right": mail("fetch")})["workflow_id"]

    def places() -> list[dict[str, float]]:
        found = [box(page, f"node:{name}").locator(".face").bounding_box() for name in ("fetch", "left", "right")]
        return [{**one} for one in found if one is not None]

    page.set_viewport_size({"width": 500, "height": 800})
    page.goto(f"/dashboard#/workflows/{workflow}")
    box(page, "node:left").click()
    fetch, left, right = places()
    assert left["y"] == right["y"] > fetch["y"] + fetch["height"], "the layers are below each other"
    page.set_viewport_size({"width": 1300, "height": 800})
    # The layers are beside each other.
    page.wait_for_function(
        """() => {
          const [fetch, left, right] = ["fetch", "left", "right"].map((name) =>
            document.querySelector(`.graph [data-key="node:${name}"] .face`)?.getBoundingClientRect());
          return fetch && left && right && Math.abs(left.x - right.x) < 1 && left.x > fetch.right;
        }"""
    )
    _, left, _ = places()
    ring = page.locator(".graph .ring").bounding_box()
    assert ring is not None
    assert ring["x"] < left["x"] < ring["x"] + ring["width"]
    assert ring["y"] < left["y"] < ring["y"] + ring["height"]


def test_workflows_are_listed_with_how_far_they_are(page: Page, api: httpx.Client) -> None:
    hold(api, "held-list")
    page.goto("/dashboard#/workflows?name=invoices")
    expect(page.get_by_text("No workflow matches")).to_be_visible()
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    workflow = submit(api, "invoices", {"fetch": mail(queue="held-list"), "send": mail("fetch")})["workflow_id"]
    row = page.locator(".workflows .row")
    expect(row).to_have_count(1)
    expect(row.locator(".status")).to_have_text("running")
    expect(row).to_contain_text("2 nodes")
    assert api.post("groups/held-list/resume").status_code == 200
    expect(row.locator(".status")).to_have_text("completed")
    expect(row.get_by_role("img")).to_have_attribute("aria-label", "2 completed")
    page.get_by_role("button", name="Failed").click()
    expect(page.get_by_text("No workflow matches")).to_be_visible()
    page.get_by_role("button", name="Show all workflows").click()
    expect(page.locator(f'.row[data-id="{workflow}"]')).to_be_visible()
    page.locator(f'.row[data-id="{workflow}"]').click()
    expect(page.get_by_role("heading", name="invoices")).to_be_visible()


def test_a_task_shows_what_is_around_it(page: Page, api: httpx.Client) -> None:
    nodes = {"fetch": mail(), "render": render("fetch"), "send": mail("render"), "far": mail("send")}
    workflow = submit(api, "family", nodes)
    page.goto(f"/dashboard#/tasks/{workflow['nodes']['render']}")
    family = page.locator(".family")
    expect(family).to_contain_text("family: 4 nodes, this one is render")
    expect(page.locator(".graph .box")).to_have_count(3)
    expect(box(page, "node:render")).to_have_attribute("aria-selected", "true")
    box(page, "node:send").click()
    expect(page).to_have_url(re.compile(f"#/tasks/{workflow['nodes']['send']}$"))
    expect(box(page, "node:far")).to_be_visible()
    family.get_by_role("link", name="Whole workflow").click()
    expect(page).to_have_url(re.compile(f"#/workflows/{workflow['workflow_id']}$"))


def test_a_task_shows_what_it_depends_on_and_what_made_it(page: Page, api: httpx.Client) -> None:
    mail_type = {"type": "mail.send", "payload": {"to": "ada@example.org"}}
    hold(api, "held-parents")
    waits = api.post("tasks", json={**mail_type, "queue": "held-parents"}).json()["task_id"]
    fails = api.post("tasks", json={"type": "card.charge", "payload": {"amount": 1, "card": "4000"}}).json()["task_id"]
    more = [api.post("tasks", json=mail_type).json()["task_id"] for _ in range(10)]
    depends_on = [waits, {"task": fails, "when": "ended"}, *more]
    child = api.post("tasks", json={**mail_type, "depends_on": depends_on}).json()["task_id"]
    page.goto(f"/dashboard#/tasks/{child}")
    row = page.locator(".parents > div")
    expect(row).to_have_count(11)
    expect(row.nth(0).locator(".status")).to_have_text("pending")
    expect(row.nth(1).locator(".status")).to_have_text("failed")
    expect(row.nth(1)).to_contain_text("(any end)")
    expect(row.nth(10)).to_have_text("and 2 more")
    assert api.post("groups/held-parents/resume").status_code == 200
    expect(row.nth(0).locator(".status")).to_have_text("completed")
    expect(page.locator(".task-head .status")).to_have_text("completed")
    page.reload()
    expect(row.nth(0).locator(".status")).to_have_text("completed")
    row.nth(1).get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"#/tasks/{fails}$"))
    expect(page.get_by_text("Depends on")).to_have_count(0)

    body = {"user_id": "7", "trigger_type": "IMMEDIATE", "task": mail_type}
    made = api.post("definitions", json=body).json()["task_def_id"]
    task = api.get(f"definitions/{made}").json()["last_task_id"]
    page.goto(f"/dashboard#/tasks/{task}")
    page.locator(".facts").get_by_role("link", name=made[:8]).click()
    expect(page).to_have_url(re.compile(f"#/definitions/{made}$"))


def test_a_task_says_what_has_replaced_it(page: Page, api: httpx.Client) -> None:
    for kind, shown in (("chain", ["celery.chain", f"{REPLACING}.shows"]), ("task", [f"{REPLACING}.shows"])):
        call = {"type": f"{REPLACING}.becomes", "payload": {"args": [kind], "kwargs": {}}}
        task = api.post("tasks", json=call).json()["task_id"]
        page.goto(f"/dashboard#/tasks/{task}")
        expect(badge(page)).to_have_text("completed")
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{REPLACING}.shows")
        fact = page.locator(".facts > div").filter(has_text="Replaced by").locator("dd > div")
        expect(fact).to_have_text(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_each_window(browser: Browser, url: str, api: httpx.Client, scheme: str) -> None:
    long = "n" * 60
    nodes = {long: mail(), f"{long}2": charge("4000" + "0" * 300, long), "other": mail(f"{long}2")}
    workflow = submit(api, "w" * 200, nodes)
    task = workflow["nodes"][long]
    for width in (360, 1024, 1440):
        with watched_page(browser, url, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
            for path, seen in (
                ("workflows", f'.row[data-id="{workflow["workflow_id"]}"]'),
                (f"workflows/{workflow['workflow_id']}", ".graph .box"),
                (f"tasks/{task}", ".family .box"),
            ):
                page.goto(f"/dashboard#/{path}")
                expect(page.locator(seen).first).to_be_visible()
                wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                assert wide <= window, f"{path} is {wide} pixels wide"
                cut = page.evaluate(
                    "[...document.querySelectorAll('.row')].filter((r) => r.scrollWidth > r.clientWidth).length"
                )
                assert cut == 0, f"{path}: {cut} rows are cut off"


def test_a_workflow_that_does_not_exist_is_said_so(browser: Browser, url: str) -> None:
    with watched_page(browser, url, expected="status of 404") as page:
        page.goto("/dashboard#/workflows/nothing")
        expect(page.get_by_text("This workflow does not exist")).to_be_visible()
