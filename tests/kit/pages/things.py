"""One of each thing that the pages show, on a platform with the types of `pages_types` and `task_page_types`."""

from __future__ import annotations

import time
from typing import Any, Final

import httpx

DECLINED: Final = {"type": "card.charge", "payload": {"amount": 12, "card": "4000"}}
MAIL: Final = {"type": "mail.send", "payload": {"to": "ada@example.org"}}
#: Runs until it is cancelled.
HELD: Final = {"type": "report.render", "payload": {"customer": 7, "pause_s": 600}}


def submit(api: httpx.Client, task: dict[str, Any], **more: Any) -> str:
    """Submit a task; returns its id."""
    answer = api.post("tasks", json={**task, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def define(api: httpx.Client, name: str, **more: Any) -> str:
    """Create a definition; returns its id."""
    rule = {"trigger_type": "LOOP", "trigger_args": {"interval": 86400}}
    answer = api.post("definitions", json={"user_id": "ada", "name": name, "task": MAIL, **rule, **more})
    assert answer.status_code < 300, answer.text
    return str(answer.json()["task_def_id"])


def make_things(api: httpx.Client) -> dict[str, str]:
    """Make one of each thing that pages show; returns their ids."""
    orders = [{"id": number, "note": "x" * 400} for number in range(3000)]
    noise = {"reports": 3, "lines": 900, "steps": 40, "children": 3}
    several = {f"n{number}": MAIL for number in range(60)}
    upload = api.post("files", files={"file": ("holiday.mkv", b"no film")}).json()["file_id"]
    things = {
        "failed": submit(api, DECLINED, metadata={"source": "walk"}),
        "running": submit(api, HELD),
        "scheduled": submit(api, MAIL, delay="1h"),
        "asking": submit(api, {"type": "order.refund", "payload": {"amount": 12}}),
        "completed": submit(api, MAIL, metadata={"source": "walk"}),
        "flaky": submit(api, {"type": "page.flaky", "payload": {"failures": 9}}),
        "noisy": submit(api, {"type": "page.noise", "payload": noise}),
        "large": submit(api, {"type": "page.keep", "payload": {"value": {"orders": orders}}}),
        "chat": submit(api, {"type": "page.chat", "payload": {"messages": [{"role": "user", "content": "hello"}]}}),
        "file": submit(api, {"type": "file_process", "payload": {"file_id": upload}}),
        "definition": define(api, "nightly"),
        "paused": define(api, "paused", paused=True),
    }
    nodes = {"first": DECLINED, "second": {**MAIL, "after": ["first"]}, **several}
    things["workflow"] = api.post("workflows", json={"name": "figures", "nodes": nodes}).json()["workflow_id"]
    one = {"name": "slow figures", "nodes": {"first": HELD}}
    things["running_workflow"] = api.post("workflows", json=one).json()["workflow_id"]
    assert api.put("limits/per-customer", json={"group": "mail", "by": "key", "max_running": 2}).is_success
    until = time.monotonic() + 60
    while api.get("errors").json()["total"]["dead"] < 4:
        assert time.monotonic() < until
        time.sleep(0.1)
    submit(api, MAIL, queue="parked")
    assert api.post("groups/parked/pause", json={}).is_success
    things["parked"] = submit(api, MAIL, queue="parked")
    return things
