"""The short message that the life cycle writes, and what it stands for, held against what Celery publishes and runs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_sync
from celery import Celery
from kombu import Connection

from celeriac.model import Claim, Failure, Submission
from celeriac.store.task_store import TaskStore
from celeriac_tasks.engine.calls.hints import is_short, written_out
from tests.kit.command_line import REPOSITORY
from tests.kit.life_cycle_state import STEPS
from tests.kit.waiting import eventually

#: Where a message of ours differs from Celery's on purpose, or by its nature.
UNIQUE = {"headers.id", "headers.root_id", "headers.origin", "properties.correlation_id", "properties.delivery_tag"}
OWN = {
    "headers.celeriac": "tells a worker of ours that the payload comes with the claim",
    "headers.kwargsrepr": "shows the payload in Flower, though it does not travel",
    "properties.reply_to": "nobody waits for a reply",
    "headers.ignore_result": "the record is the result",
}


@pytest.fixture
def look(valkey_url: str) -> Iterator[Any]:
    """A client that reads the lists."""
    with redis_sync.Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one with dotted keys."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    inner = [flat(part, f"{path}.{name}" if path else name) for name, part in value.items()]
    return {name: part for parts in inner for name, part in parts.items()}


@pytest.mark.parametrize("priority", range(10))
async def test_our_message_is_what_celery_publishes(
    store: TaskStore, valkey_url: str, look: Any, priority: int
) -> None:
    with Celery("peer", broker=valkey_url) as app:
        app.send_task("stock.trace", queue="media", priority=9 - priority)
    names = [name for name in (f"media{step}" for step in STEPS) if look.llen(name)]
    assert len(names) == 1
    theirs = json.loads(look.rpop(names[0]))
    await store.submit(Submission(task_id="t", type="stock.trace", group="media", priority=priority))
    assert look.llen(names[0]) == 1, "the same list, as kombu maps the priority"
    short = json.loads(look.rpop(names[0]))
    assert is_short(short)
    ours = written_out(short, '{"x": 1}')

    assert json.loads(base64.b64decode(ours.pop("body"))) == json.loads(base64.b64decode(theirs.pop("body")))
    our_keys, their_keys = flat(ours), flat(theirs)
    assert set(our_keys) - set(their_keys) <= set(OWN)
    assert set(their_keys) - set(our_keys) == set()
    differing = {name for name in their_keys if our_keys[name] != their_keys[name]}
    assert differing - UNIQUE <= set(OWN)
    assert ours["headers"]["id"] == ours["headers"]["root_id"] == ours["properties"]["correlation_id"] == "t"


async def test_kombu_decodes_our_message(store: TaskStore, valkey_url: str) -> None:
    odd = 'ü "quoted" \\ \n / \0'
    await store.submit(Submission(task_id=odd, type="demo", group="media", payload='{"a": "\u00e4\\n"}'))
    with Connection(valkey_url) as connection:
        queue = connection.SimpleQueue("media")
        message = queue.get(timeout=10)
        assert message.payload == [[], {}, {}]
        assert message.headers["id"] == odd
        message.ack()
        queue.close()


async def test_our_message_holds_what_celery_must_have_and_no_more(store: TaskStore, look: Any) -> None:
    task_id = str(uuid4())
    await store.submit(Submission(task_id=task_id, type="shop.send_invoice", group="invoices", payload='{"a": 1}'))
    text = look.rpop("invoices\x06\x169")
    assert json.loads(text) == {
        "headers": {"celeriac": 1, "task": "shop.send_invoice", "id": task_id},
        "body": "[[],{},{}]",
        "content-type": "application/json",
        "properties": {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "invoices"}},
    }
    assert len(text) <= 256


async def test_the_next_attempt_says_how_many_there_were(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="t", type="demo", priority=9))
    for attempt in range(3):
        short = json.loads(look.rpop("default"))
        assert short["headers"].get("retries", 0) == attempt
        whole = written_out(short, "")
        assert whole["headers"]["retries"] == attempt
        assert whole["properties"]["priority"] == 0
        claim = await store.claim("t", worker="w")
        assert isinstance(claim, Claim)
        await store.fail(claim, Failure("x", "", True), 0)
        await store.promote()


@contextmanager
def stock_worker(url: str, log: Path, pool: str = "solo") -> Iterator[None]:
    """Run an unchanged Celery worker on the queue `media`."""
    command = [
        *(sys.executable, "-m", "celery", "-A", "tests.kit.workers.stock_worker", "worker", "-Q", "media"),
        *(f"--pool={pool}", "--concurrency=1", "--without-mingle", "--without-gossip", "--loglevel=warning"),
    ]
    root = REPOSITORY
    with log.open("wb") as output:
        worker = subprocess.Popen(
            command, cwd=root, env={**os.environ, "STOCK_URL": url}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        worker.kill()
        worker.wait()


async def test_a_stock_worker_runs_our_messages_in_the_order_of_their_priority(
    store: TaskStore, valkey_url: str, look: Any, tmp_path: Path
) -> None:
    ids = {priority: f"käse-{priority} ☃" for priority in range(10)}
    for priority, task_id in ids.items():
        await store.submit(
            Submission(
                task_id=task_id, type="stock.trace", group="media", priority=priority, payload='{"käse": "\\"☃\\""}'
            )
        )
    with stock_worker(valkey_url, tmp_path / "worker.log"):
        await eventually(
            lambda: look.llen("stock:ran") == 10,
            because="a stock Celery worker runs what we publish",
            timeout_s=60,
        )
    ran = look.lrange("stock:ran", 0, -1)
    # Redis knows four steps of priority; in one step it is first come, first served.
    steps = [[9, 8, 7], [6, 5, 4], [3, 2, 1], [0]]
    assert ran == [ids[priority] for step in steps for priority in sorted(step)]
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
async def test_a_stock_worker_says_of_our_message_that_it_does_not_know_the_task_and_goes_on(
    store: TaskStore, valkey_url: str, look: Any, tmp_path: Path, pool: str
) -> None:
    for task_id, name in (("unknown", "nobody.knows"), ("known", "stock.trace")):
        await store.submit(Submission(task_id=task_id, type=name, group="media", payload='{"x": 1}'))
    log = tmp_path / "worker.log"
    with stock_worker(valkey_url, log, pool):
        await eventually(
            lambda: look.lrange("stock:ran", 0, -1) == ["known"],
            because="the message after the one that it cannot run",
            timeout_s=60,
        )
        await eventually(lambda: "Received unregistered task of type 'nobody.knows'" in log.read_text(), because="said")
