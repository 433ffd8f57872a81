"""Whatever a foreign program writes into a queue or a key that workers read: no worker ends, and its work goes on."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any, Final

import pytest

from celeriac.model import Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, ended, submit


def message(**changes: Any) -> dict[str, Any]:
    """Return a message of a registered type as kombu's transports write it, with some fields changed or removed."""
    body = base64.b64encode(json.dumps([[], {"x": 1}, {}]).encode()).decode()
    whole: dict[str, Any] = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "noop", "id": "junk-1", "root_id": "junk-1", "retries": 0},
        "properties": {
            "correlation_id": "junk-1",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "default"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "tag",
        },
    }
    for path, value in changes.items():
        place: Any = whole
        *upper, last = path.split("__")
        for name in upper:
            place = place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return whole


def fields() -> dict[str, Any]:
    """Return messages in which one field is missing, or has a wrong type or value, each field in turn."""
    wrong: dict[str, Any] = {}
    places = ["body", "content-encoding", "content-type", "headers", "properties"]
    places += [f"headers__{name}" for name in ("task", "id", "retries", "lang", "root_id")]
    places += [f"properties__{name}" for name in ("delivery_tag", "delivery_info", "body_encoding", "priority")]
    for place in places:
        for value in (..., None, 5, [1], {"a": [1]}, "what?", "", True, -1.5):
            wrong[f"{place} {value!r}"] = message(**{place: value})
    for header in ("eta", "expires", "timelimit", "compression", "stamps", "group", "chord", "ignore_result"):
        for value in (5, [1], {"a": 1}, "what?", [None, "x"]):
            wrong[f"{header} {value!r}"] = message(headers={**message()["headers"], header: value})
    for marked in (1, 2, "x", None, {}):
        wrong[f"record {marked!r}"] = message(headers={"task": "noop", "celeriac": marked})
        wrong[f"unknown record {marked!r}"] = message(headers={**message()["headers"], "celeriac": marked})
    for text in ("not base64!", "AAA", base64.b64encode(b"\xff\xfe").decode(), base64.b64encode(b"[1").decode()):
        wrong[f"body {text}"] = message(body=text)
    for value in ([], {}, [1], [[], [], []], [1, 2, 3], [[], {}, 5], None, "text", [{}, [], {}]):
        wrong[f"call {value!r}"] = message(body=base64.b64encode(json.dumps(value).encode()).decode())
    return wrong


#: Entries of a list, as bytes.
JUNK: Final[dict[str, bytes]] = {
    "empty": b"",
    "text": b"hello",
    "bytes": bytes(range(256)),
    "half JSON": b'{"body": "',
    "not UTF-8": b'{"body": "\xff"}',
    "surrogate": rb'{"body": "\ud800"}',
    "NaN": b"NaN",
    "null": b"null",
    "number": b"5",
    "array": b"[1, 2]",
    "string": b'"text"',
    "object": b"{}",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "long number": b"9" * 100_000,
    "giant": b'{"body": "' + b"x" * 8_000_000 + b'"}',
    "kombu type": b'{"__type__": "uuid", "__value__": "x"}',
    "pickle": b"\x80\x04\x95\x0b\x00",
    "gzip": b"\x1f\x8b\x08\x00",
    **{name: json.dumps(whole).encode() for name, whole in fields().items()},
}


async def still_works(store: TaskStore) -> None:
    """Check that a worker takes and ends a task."""
    task = await ended(store, await submit(store, "add", {"numbers": [1, 2]}), timeout_s=30)
    assert (task.status, task.result) == (Status.COMPLETED, {"sum": 3})


@pytest.mark.parametrize("pool", ["ours", "prefork"])
async def test_no_entry_of_a_queue_ends_a_worker(workers: Workers, store: TaskStore, *, pool: str) -> None:
    if pool == "ours":
        worker = await workers.start(store)
    else:
        command = [sys.executable, "-m", "celery", "-A", "celeriac_tasks", "worker", "-P", "prefork", "-c", "1"]
        worker = await workers.start_command(store, command)
    await still_works(store)
    for some in JUNK.values():
        await store.redis.lpush("default", some)
    # A backlog is read in another way.
    await store.redis.lpush("default", *list(JUNK.values())[:32])

    async def empty() -> bool:
        assert worker.alive, worker.said()[-3000:]
        return not await store.redis.exists("default")

    await eventually(empty, because="the worker takes everything")
    await still_works(store)
    said = worker.said()
    assert "Unrecoverable" not in said
    assert "cannot be read and is dropped" in said
    # Nothing of it is shown at length.
    assert len(max(said.splitlines(), key=len)) < 20_000


async def test_no_message_of_a_channel_and_no_key_that_workers_read_ends_a_worker(
    workers: Workers, store: TaskStore
) -> None:
    worker = await workers.start(store)
    await still_works(store)
    database = store.redis.connection_pool.connection_kwargs["db"]
    channels = [keys.CANCELS, f"/{database}.celery.pidbox"]

    async def listens() -> bool:
        return all([await store.redis.publish(name, "?") for name in channels])

    await eventually(listens, because="the worker listens there")
    for name in channels:
        for some in JUNK.values():
            await store.redis.publish(name, some)
    await still_works(store)
    await damage(store)
    for _ in range(3):
        await still_works(store)
    assert worker.alive, worker.said()[-3000:]
    assert "Unrecoverable" not in worker.said()
    # A dead worker's tasks are found all the same, and a delayed task runs.
    late = await submit(store, "add", {"numbers": [1]}, delay_ms=300)
    assert (await ended(store, late, timeout_s=30)).status is Status.COMPLETED
    held = await submit(store, "sleeps", {"s": 60}, max_retries=0)
    await eventually(lambda: is_processing(store, held), because="it runs")
    worker.kill()
    await workers.start(store)
    task = await ended(store, held, timeout_s=30)
    assert task.error is not None
    assert task.error.code == "worker_lost"


async def is_processing(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status is Status.PROCESSING


async def damage(store: TaskStore) -> None:
    """Put members without a record, and with a key of a wrong type, into every index."""
    await store.redis.set("task:of-a-wrong-type", "text")
    members = dict.fromkeys(("", "nobody", "of-a-wrong-type", "\x00", "a b"), 1.0)
    for key in (keys.LEASES, keys.DELAYED, keys.EXPIRING, keys.DEADLINES, keys.WATCHED, keys.LIMITS_DUE):
        await store.redis.zadd(key, members)
    await store.redis.zadd(keys.waiting("default"), members)
    await store.redis.xadd(keys.EVENTS, {"what": "is this"})
    await store.redis.zadd(keys.WORKERS, {"nobody": 9e12})
