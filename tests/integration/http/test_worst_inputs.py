"""The worst input of each kind to every route: no server error, no long answer, and nobody else is held up.

The routes are those of the application's own table, and the inputs are made from what each declares: a new route is
tested as soon as it exists.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import httpx
import pytest

from celeriac.settings import Settings
from celeriac_api.app import create_app
from celeriac_api.routing import Route, RouteTable, WebSocketRoute
from tests.kit.api.watched_api import Health, api
from tests.kit.api.worst_inputs import WorstInput, worst_inputs

#: The longest refusal and the longest other answer (bytes).
REFUSAL_BYTES, ANSWER_BYTES = 64 * 1024, 2 * 1024 * 1024
#: Calls of remote workers: where none is connected, that is said with 503. A history that is missing is 501.
ALLOWED = {501: "ledger_missing", 503: "no_worker"}


def routes() -> dict[str, Route | WebSocketRoute]:
    table = RouteTable(create_app(Settings(redis_url="redis://127.0.0.1:1/0")).routes)
    return {f"{method} {route.path}": route for _, _, methods, route in table._rows for method in methods}


def answer_of(client: httpx.Client, worst: WorstInput, stream: bool) -> tuple[int, bytes]:
    """Send a request and return status and body; of a stream that begins, nothing is read."""
    with client.stream(worst.method, worst.path, content=worst.body, headers=worst.headers) as response:
        return response.status_code, b"" if stream and response.status_code == 200 else response.read()


@pytest.mark.timeout(300)
def test_the_worst_input_of_each_kind_to_every_route_is_answered_briefly_and_holds_up_nobody(
    valkey_url: str, tmp_path: Path
) -> None:
    with (
        api(valkey_url, tmp_path) as (port, _),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        task = client.post("/api/v1/tasks", json={"type": "celeriac.demo", "payload": {}}).json()
        loop = {"user_id": 7, "content": "x", "trigger_type": "LOOP", "trigger_args": {"interval": 3600}}
        definition = client.post("/tasks", json=loop).json()
        known = {"task_id": task["task_id"], "taskId": task["task_id"], "task_def_id": definition["task_def_id"]}
        document = client.get("/openapi.json").json()
        wrong: list[str] = []
        with Health(port) as health:
            limit_s = health.limit_s()
            for route in routes().values():
                for worst in worst_inputs(route, document, known):
                    send = partial(answer_of, client, worst, route.access.stream)
                    longest_s, (status, answer) = health.held_up_s(limit_s, send)
                    if longest_s > limit_s:
                        wrong.append(f"{worst}: /healthz took {longest_s:.2f} s, the limit is {limit_s:.2f} s")
                    if status >= 500 and json.loads(answer).get("code", ALLOWED.get(status)) != ALLOWED.get(status):
                        wrong.append(f"{worst}: {status} {answer[:200]!r}")
                    if len(answer) > (REFUSAL_BYTES if status >= 400 else ANSWER_BYTES):
                        wrong.append(f"{worst}: {status} with {len(answer)} bytes")
        assert not wrong, "\n".join([f"{len(wrong)} of them:", *wrong])


def test_every_route_has_worst_inputs() -> None:
    document = create_app(Settings(redis_url="redis://127.0.0.1:1/0")).openapi()
    for name, route in routes().items():
        found = worst_inputs(route, document, {})
        assert found, name
        assert not (name.startswith(("POST", "PUT", "PATCH"))) or any(worst.body for worst in found), name
