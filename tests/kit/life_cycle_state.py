"""What must hold in the store between any two calls, read with a client of its own."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Container
from typing import Any

from celeriac.model import Event, Submission
from celeriac.store import keys
from celeriac.store.life import event_commands, events_from, whole
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import STORED

#: A synchronous `redis.Redis` that decodes replies; its annotations do not know that it does.
Client = Any

#: kombu's lists of one queue, in the order in which a worker looks into them.
STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")

FINAL = {"COMPLETED", "FAILED", "CANCELLED"}


def records(client: Client) -> dict[str, dict[str, str]]:
    """Return every task's record by id, with what a short one leaves out."""
    ids = [key.removeprefix("task:") for key in client.scan_iter("task:*", count=1000, _type="hash")]
    with client.pipeline(transaction=False) as pipe:
        for task_id in ids:
            pipe.hgetall(keys.task(task_id))
        return {task_id: whole(task_id, record) for task_id, record in zip(ids, pipe.execute(), strict=True)}


def record_of(client: Client, task_id: str) -> dict[str, str]:
    """Return a task's record, with what a short one leaves out; empty if there is none."""
    return whole(task_id, client.hgetall(keys.task(task_id)))


def move_moment(client: Client, task_id: str, field: str, by_ms: int) -> None:
    """Move a moment of a record (ms since the epoch) into the past, or into the future."""
    client.hset(keys.task(task_id), field, int(record_of(client, task_id)[field]) + by_ms)


def write_as_before(client: Client, task_id: str) -> None:
    """Write a short record, and its events, as the version before short records had them."""
    raw, events = client.hgetall(keys.task(task_id)), events_of(client, task_id)
    if "life" not in raw:
        return
    ttl_ms = client.pttl(keys.task(task_id))
    with client.pipeline() as pipe:
        pipe.hset(keys.task(task_id), mapping=whole(task_id, raw))
        pipe.hdel(keys.task(task_id), "life")
        for event in events:
            pipe.xadd(keys.task_events(task_id), {"kind": event.kind, **event.fields}, id=event.id)
        if ttl_ms > 0:
            pipe.pexpire(keys.task_events(task_id), ttl_ms)
        pipe.execute()


def events_of(client: Client, task_id: str) -> list[Event]:
    """Return a task's events, from its stream or its record."""
    told, entries = (client.execute_command(*one) for one in event_commands(task_id, "XRANGE", "-", "+"))
    return events_from(told, entries)


def expected_indexes(record: dict[str, str], open_items: dict[str, str]) -> set[str]:
    """Return the sorted sets in which a task of this record belongs, that waits for these."""
    status, group = record["status"], record["queue"]
    indexes = {
        "SCHEDULED": {keys.DELAYED},
        "RETRYING": {keys.DELAYED},
        "WAITING": {keys.SUSPENDED},
        "PENDING": {keys.remote(group) if record.get("delivery") == "remote" else keys.waiting(group)},
        "PROCESSING": {keys.LEASES, keys.running(group)},
    }.get(status, set())
    not_begun = record["attempt"] == record.get("attempts_before", "0")
    if status in ("WAITING", "SCHEDULED", "PENDING") and not_begun and "expires_ms" in record:
        indexes = indexes | {keys.EXPIRING}
    if status == "WAITING" and any(text.isdecimal() or "expires_ms" in text for text in open_items.values()):
        indexes = indexes | {keys.DELAYED}
    if status not in FINAL and "deadline_ms" in record:
        indexes = indexes | {keys.DEADLINES}
    return indexes


def assert_consistent(client: Client, gone: Container[str] = ()) -> dict[str, dict[str, str]]:
    """Check every record against indexes, retention and events; return the records.

    `gone` are tasks whose records have left the store: others may still tell of them.
    """
    found = records(client)
    known = client.smembers(keys.GROUPS)
    assert {record["queue"] for record in found.values() if record["status"] == "PENDING"} <= known
    _assert_groups(client, found, known)
    groups = known | {record["queue"] for record in found.values()}
    index_keys = [keys.LEASES, keys.DELAYED, keys.EXPIRING, keys.DEADLINES, keys.SUSPENDED]
    index_keys += [
        key(group) for group in sorted(groups) for key in (keys.waiting, keys.remote, keys.remote_parked, keys.running)
    ]
    ids = list(found)
    with client.pipeline(transaction=False) as pipe:
        for key in index_keys:
            pipe.zrange(key, 0, -1)
        for task_id in ids:
            pipe.pttl(keys.task(task_id))
            pipe.pttl(keys.task_events(task_id))
            for command in event_commands(task_id, "XRANGE", "-", "+"):
                pipe.execute_command(*command)
        pipe.xrange(keys.EVENTS)
        replies: list[Any] = pipe.execute()

    open_of = by_id(client, keys.open_conditions, client.hgetall)
    present: dict[str, set[str]] = defaultdict(set)
    for key in index_keys:
        for task_id in replies.pop(0):
            assert task_id in found, f"{task_id} is in {key} and has no record"
            # A rule keeps remote tasks that it holds back in an index of their own.
            present[task_id].add(key.replace("celeriac:remote-parked:", "celeriac:remote:"))

    streams = {}
    for task_id in ids:
        record = found[task_id]
        assert present[task_id] == expected_indexes(record, open_of.get(task_id, {})), (
            f"{task_id} is {record['status']}"
        )
        record_ttl, events_ttl, told, entries = (replies.pop(0) for _ in range(4))
        streams[task_id] = [(event.id, {"kind": event.kind, **event.fields}) for event in events_from(told, entries)]
        ends = record["status"] in FINAL and "dependants" not in record
        assert bool(told[0]) != bool(entries), f"{task_id}: either its record tells its events, or its stream"
        for ttl in (record_ttl, events_ttl) if entries else (record_ttl,):
            assert (ttl > 0) == ends, f"{task_id} is {record['status']} with a life of {ttl} ms"
        assert int(record["attempt"]) <= int(record["attempts_allowed"])
        assert record.keys() <= STORED, "each field is in the table of fields"
        _assert_events(record, streams[task_id])
    everything = [
        (entry, fields)
        for entry, fields in replies.pop(0)
        if fields.get("kind") != "workflow" and fields["task_id"] not in gone
    ]
    children = _assert_kept(client, found)
    _assert_dependencies(client, found, open_of, children)
    _assert_questions(client, found, open_of)
    _assert_feeds(client, found, everything, gone)
    _assert_global_stream(streams, everything)
    return found


def _assert_groups(client: Client, found: dict[str, dict[str, str]], known: set[str]) -> None:
    """Check what is noted of groups: those that are awake, their tasks that wait for a time, and who made them."""
    awake = client.smembers(keys.AWAKE)
    assert awake <= known
    for_workers = {r["queue"] for r in found.values() if r["status"] == "PENDING" and not r.get("delivery")}
    assert for_workers <= awake
    delayed = Counter(r["queue"] for r in found.values() if r["status"] in ("SCHEDULED", "RETRYING", "WAITING"))
    assert set(delayed) <= known
    for group in known:
        assert int(client.hget(keys.group(group), "delayed") or 0) == delayed[group], group
    makers = client.hgetall(keys.MAKERS)
    assert set(makers) <= known
    assert {maker: int(n) for maker, n in client.hgetall(keys.MADE).items()} == dict(Counter(makers.values()))


def by_id(client: Client, key: Callable[[str], str], read: Callable[[str], Any]) -> dict[str, Any]:
    """Return what `read` finds under each key of this kind, by the id that the key is made of."""
    return {name.removeprefix(key("")): read(name) for name in client.scan_iter(key("*"))}


def _assert_kept(client: Client, found: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """Check that what tasks keep lives as long as they; return the ids of their children."""
    children: dict[str, set[str]] = defaultdict(set)
    numbers: dict[str, list[int]] = defaultdict(list)
    for key in (keys.steps, keys.signals):
        for task_id, entries in by_id(client, key, client.hgetall).items():
            assert (client.pttl(key(task_id)) > 0) == (client.pttl(keys.task(task_id)) > 0), task_id
            for name, text in entries.items():
                number, *_, value = text.split(" ", 3)
                numbers[task_id] += [int(number)] if number != "0" else []
                if key is keys.steps and name.startswith("child:") and number != "0":
                    children[task_id].add(value)
    for task_id, given in numbers.items():
        assert len(set(given)) == len(given), "each entry has a number of its own"
        assert max(given, default=0) <= int(found[task_id]["noted"])
    return children


def _assert_questions(client: Client, found: dict[str, dict[str, str]], open_of: dict[str, dict[str, str]]) -> None:
    """Check that each question is in the lists of those who may answer it, and nothing else is."""
    expected: dict[str, set[str]] = defaultdict(set)
    for task_id, items in open_of.items():
        for name, text in items.items():
            if text.startswith("{"):
                users = {found[task_id].get("user_id"), *(json.loads(text).get("users") or ())} - {None}
                for index in (keys.WAITS, *map(keys.waits_of, users)):
                    expected[index].add(f"{name.removeprefix('signal:')} {task_id}")
    lists = [*client.scan_iter(keys.waits_of("*")), *([keys.WAITS] if client.exists(keys.WAITS) else [])]
    assert {index: set(client.zrange(index, 0, -1)) for index in lists} == dict(expected)


def _assert_dependencies(
    client: Client,
    found: dict[str, dict[str, str]],
    open_of: dict[str, dict[str, str]],
    children: dict[str, set[str]],
) -> None:
    """Check that parent and dependant know of each other, and that a parent is held as long as it is needed."""
    parents = {task_id: dict(json.loads(record.get("depends_on", "[]"))) for task_id, record in found.items()}
    assert set(open_of) == {task_id for task_id, record in found.items() if record["status"] == "WAITING"}
    told: dict[str, set[str]] = defaultdict(set)
    for task_id, items in open_of.items():
        conditions = {name: text for name, text in items.items() if text.isalpha()}
        suspended = "resumes" in found[task_id]
        assert conditions.items() <= (
            {*((name, "ended") for name in children[task_id])} if suspended else parents[task_id].items()
        )
        for parent in conditions:
            told[parent].add(task_id)
    assert by_id(client, keys.dependants, lambda key: set(client.zrange(key, 0, -1))) == dict(told)
    assert client.zcard(keys.RELEASING) == 0
    needed = Counter(
        parent
        for task_id, named in parents.items()
        if found[task_id]["status"] not in FINAL
        for parent in (*named, *children[task_id])
    )
    counted = {task_id: int(record["dependants"]) for task_id, record in found.items() if "dependants" in record}
    assert counted == {parent: number for parent, number in needed.items() if parent in found}


def _assert_feeds(
    client: Client,
    found: dict[str, dict[str, str]],
    everything: list[tuple[str, dict[str, str]]],
    gone: Container[str],
) -> None:
    """Check that each user's feed is the global stream as far as it is the user's, and the user's two indexes."""
    expected: dict[str, list[dict[str, str]]] = defaultdict(list)
    indexes: dict[str, set[str]] = defaultdict(set)
    for task_id, record in found.items():
        if "user_id" in record:
            index = keys.recent if record["status"] in FINAL else keys.active
            indexes[index(record["user_id"])].add(task_id)
    for entry, fields in everything:
        user = found[fields["task_id"]].get("user_id")
        if user is not None:
            expected[user].append({"event": entry, **{name: value for name, value in fields.items() if name != "rev"}})
    feeds = {
        key: [fields for _, fields in client.xrange(key) if fields["task_id"] not in gone]
        for key in client.scan_iter(keys.feed("*"))
    }
    # Nobody has a feed that nothing happened to.
    assert {key: told for key, told in feeds.items() if told or not gone} == {
        keys.feed(user): told for user, told in expected.items()
    }
    for user in expected:
        assert client.pttl(keys.feed(user)) > 0
    held = {key for pattern in (keys.active("*"), keys.recent("*")) for key in client.scan_iter(pattern)}
    assert {key: set(client.zrange(key, 0, -1)) for key in held} == dict(indexes)


def _assert_events(record: dict[str, str], events: list[tuple[str, dict[str, str]]]) -> None:
    order = [tuple(map(int, entry_id.split("-"))) for entry_id, _ in events]
    assert order == sorted(set(order))
    told = [fields["status"] for _, fields in events if fields["kind"] == "status"]
    assert told[-1] == record["status"], f"{record['task_id']}: the events say {told}"


def _assert_global_stream(
    streams: dict[str, list[tuple[str, dict[str, str]]]], everything: list[tuple[str, dict[str, str]]]
) -> None:
    told: dict[str, list[tuple[str, dict[str, str]]]] = defaultdict(list)
    revs: dict[str, list[int]] = defaultdict(list)
    for entry, fields in everything:
        task_id = fields.pop("task_id")
        revs[task_id].append(int(fields.pop("rev")))
        # Without a stream of the task's own, its events have the ids of the global one.
        told[task_id].append((fields.pop("event", entry), fields))
    assert streams == dict(told)
    for task_id, counted in revs.items():
        assert counted == list(range(1, len(counted) + 1)), (
            f"{task_id}: each event counts the record's revision up by one"
        )


def messages(client: Client, group: str) -> list[dict[str, Any]]:
    """Return the messages of a group in the order in which a worker takes them."""
    lists = [client.lrange(f"{group}{step}", 0, -1) for step in STEPS]
    return [json.loads(text) for texts in lists for text in reversed(texts)]


def take_message(client: Client, group: str) -> dict[str, Any] | None:
    """Take the next message as a worker does, or None."""
    for step in STEPS:
        text = client.rpop(f"{group}{step}")
        if text is not None:
            return dict(json.loads(text))
    return None


def take_ids(client: Client, group: str) -> list[str]:
    """Take all messages of a group; return the ids they name, in order."""
    taken = []
    while (message := take_message(client, group)) is not None:
        taken.append(message["headers"]["id"])
    return taken


async def submit_all(store: TaskStore, *ids: str, group: str = "g", **more: object) -> None:
    """Submit tasks of these ids."""
    for task_id in ids:
        await store.submit(Submission(task_id=task_id, type="demo", group=group, **more))  # type: ignore[arg-type]
