"""The global event stream as recorders read it: one of them gets each entry, and keeps it until it acknowledges it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from celeriac.errors import StoreUnavailableError
from celeriac.model import Event, Workflow
from celeriac.store import keys
from celeriac.store.life import event_commands, events_from, whole
from celeriac.store.server.answers import described
from celeriac.store.server.pipeline import BatchConnection
from celeriac.store.server.scripts import script
from celeriac.store.task_store import TaskStore
from celeriac.store.workflows import WorkflowStore

#: Consumer group of the recorders on the global stream.
GROUP: Final = "ledger"
#: The kinds of a task's events.
TIMELINE: Final = ("status", "progress", "deduplicated")
#: The kind of an event that is a line of a task's log. History keeps such lines beside the timeline.
LOG: Final = "log"
#: The kind of an event that is a step of a task: its fields are `name`, `began` (ms) and `result` (JSON).
STEP: Final = "step"
#: How the names of steps begin among what a task keeps.
_STEP_NAME: Final = "step:"
#: How nearly every entry begins.
_BEGIN: Final = ["task_id", "rev", "event", "kind"]
#: The large fields of a record.
_LARGE: Final = ("payload", "result", "message")
#: Most bytes of large fields, and most records, that are read at once.
_PAGE_BYTES: Final = 8 * 1024**2
_PAGE_RECORDS: Final = 500
#: Most entries that are counted if the server cannot count them itself (before Redis 7).
_COUNTED: Final = 10_000
#: A recorder that resynchronises counts as dead when its mark is this old (ms).
_RESYNC_LOCK_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One entry of the global stream: an event of a task, and the revision of the record after it."""

    entry_id: str
    task_id: str
    rev: int
    event: Event
    #: The workflow that has changed as a whole, if it is such an event. It is of no task then.
    workflow_id: str = ""

    @classmethod
    def unknown(cls) -> FeedEntry:
        """Return what stands for an event that is not known."""
        return cls("", "", -1, Event("0-0", "", {}))


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of one look into the stream.

    `missed` means that entries were trimmed before any recorder read them. `resync` is the number of the
    resynchronisation that is due because of that, until it is done.
    """

    entries: list[FeedEntry]
    missed: bool
    resync: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far recording is behind: the entries that are not acknowledged yet, and the age of the oldest in seconds."""

    entries: int
    seconds: float
    #: False if no recorder has ever run.
    recording: bool
    resyncing: bool
    #: Everything that happened before this moment of the server's clock is recorded.
    recorded_until_ms: int


class EventFeed:
    """One recorder's view of the stream; `consumer` is a name that no other process uses."""

    def __init__(self, store: TaskStore, *, consumer: str) -> None:
        self._store = store
        self._consumer = consumer
        self._connection = BatchConnection(store.redis.connection_pool)

    async def close(self) -> None:
        """Disconnect. Idempotent."""
        await self._connection.close()

    async def read(self, count: int) -> Reading:
        """Return up to `count` unread entries; they belong to this consumer until it acknowledges them."""
        position = script("feed_position").source
        # Both in one step: after the read, the server no longer tells how far reading was before.
        *_, done = await self._store.read_over(
            self._connection,
            [
                ("MULTI",),
                ("EVAL", position, 2, keys.EVENTS, keys.LEDGER, GROUP),
                ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, "STREAMS", keys.EVENTS, ">"),
                ("EXEC",),
            ],
        )
        looked, streams = done
        for answer in done:
            if isinstance(answer, Exception):
                raise StoreUnavailableError(described(answer)) from answer
        return Reading([_entry(*entry) for entry in _entries_of(streams)], missed=looked[0] == 1, resync=looked[1])

    async def take_over(self, count: int, *, idle_s: float) -> list[FeedEntry]:
        """Return up to `count` entries that another recorder read and did not acknowledge for `idle_s`: it has died."""
        after, found, missed = "0-0", [], False
        while True:
            claim = ("XAUTOCLAIM", keys.EVENTS, GROUP, self._consumer, round(idle_s * 1000), after)
            reply = (await self._store.read((*claim, "COUNT", count), errors=True))[0]
            if isinstance(reply, ResponseError):
                return []  # no recorder has read anything yet
            after, entries = reply[0], reply[1]
            gone = [entry_id for entry_id, fields in entries if fields is None]
            if gone:
                # Before Redis 7, trimmed entries come without fields and stay pending.
                await self.ack(gone)
            missed = missed or bool(gone) or (len(reply) > 2 and bool(reply[2]))
            found = [_entry(*entry) for entry in entries if entry[1] is not None]
            if found or after == "0-0":
                break
        if missed:
            await self.ask_for_resync()
        return found

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge entries: they are in the history for good."""
        if entry_ids:
            await self._store.read_over(self._connection, [("XACK", keys.EVENTS, GROUP, *entry_ids)])

    async def retire(self, *, unseen_s: float) -> None:
        """Forget consumers that have not read for this long."""
        source = script("feed_retire").source
        await self._store.read(("EVAL", source, 1, keys.EVENTS, GROUP, round(unseen_s * 1000)))

    async def records(self, task_ids: Iterable[str]) -> AsyncIterator[dict[str, dict[str, str]]]:
        """Yield the records of the tasks in pages that fit into memory; `{}` stands for a record that is gone."""
        ids = list(task_ids)
        if not ids:
            return
        # Many small commands hold the other clients of the store up for less than one that looks at all records.
        measuring = [("HSTRLEN", keys.task(task_id), name) for task_id in ids for name in _LARGE]
        lengths = iter(await self._store.read_over(self._connection, measuring))
        page: list[str] = []
        held = 0
        for task_id, *found in zip(ids, *[lengths] * len(_LARGE), strict=True):
            size = sum(found)
            if page and (held + size > _PAGE_BYTES or len(page) == _PAGE_RECORDS):
                yield await self._records(page)
                page, held = [], 0
            page.append(task_id)
            held += size
        yield await self._records(page)

    async def lag(self) -> Lag:
        """Return how far recording is behind."""
        time, length, groups, notes = await self._store.read(
            ("TIME",), ("XLEN", keys.EVENTS), ("XINFO", "GROUPS", keys.EVENTS), ("HGETALL", keys.LEDGER), errors=True
        )
        now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
        mine = None if isinstance(groups, Exception) else group_of(groups)
        resyncing = "resync" in notes
        if mine is None:
            return _lag(int(length), now_ms, await self._first_after("-"), recording=False, resyncing=resyncing)
        delivered = str(mine["last-delivered-id"])
        waiting, pending = mine.get("lag"), int(mine["pending"])
        oldest = await self._first_after(f"({delivered}")
        if oldest is None:
            waiting = 0  # a server that was a replica before may count wrong
        elif waiting is None:
            reply = await self._store.read(("XRANGE", keys.EVENTS, f"({delivered}", "+", "COUNT", _COUNTED))
            waiting = len(reply[0])
        if pending:
            summary = (await self._store.read(("XPENDING", keys.EVENTS, GROUP)))[0]
            first_pending = summary["min"] if isinstance(summary, dict) else summary[1]
            oldest = first_pending or oldest
        return _lag(int(waiting) + pending, now_ms, oldest, recording=True, resyncing=resyncing)

    async def workflow(self, workflow_id: str) -> Workflow:
        """Return a workflow as the store has it; raises `WorkflowNotFoundError`."""
        return await WorkflowStore(self._store).get(workflow_id)

    # --- resynchronisation: what the stream no longer has is read from the records themselves

    async def ask_for_resync(self) -> None:
        """Ask for a look at all records."""
        number = (await self._store.read(("HINCRBY", keys.LEDGER, "asked", 1)))[0]
        await self._store.read(("HSET", keys.LEDGER, "resync", number, "cursor", "0"))

    async def resync_page(self, number: str, count: int) -> tuple[list[str], str] | None:
        """Return the next page of task ids and the cursor after it, or None while another recorder reads a page."""
        free, cursor = await self._store.read(
            ("SET", keys.LEDGER_RESYNC, self._consumer, "NX", "PX", _RESYNC_LOCK_MS),
            ("HGET", keys.LEDGER, "cursor"),
        )
        if not free:
            return None
        following, found = (
            await self._store.read(("SCAN", cursor or "0", "MATCH", keys.task("*"), "COUNT", count, "TYPE", "hash"))
        )[0]
        return [key.removeprefix(keys.task("")) for key in found], str(following)

    async def resync_done(self, number: str, cursor: str) -> None:
        """Note that the page before `cursor` is in the history."""
        source = script("feed_note").source
        await self._store.read(
            ("EVAL", source, 1, keys.LEDGER, number, cursor),
            ("DEL", keys.LEDGER_RESYNC),
        )

    async def events_of(self, task_ids: Sequence[str], count: int) -> list[FeedEntry]:
        """Return the last `count` events of each task from its own stream."""
        commands = [event_commands(task_id, "XREVRANGE", "+", "-", "COUNT", count) for task_id in task_ids]
        replies = iter(await self._store.read_records(*(command for pair in commands for command in pair)))
        return [
            FeedEntry("", task_id, 0, event)
            for task_id in task_ids
            for event in events_from(next(replies), next(replies)[::-1])[-count:]
        ]

    async def log_lines_of(self, task_ids: Sequence[str], count: int) -> list[FeedEntry]:
        """Return the last `count` lines of each task's log, as events of the kind `log`."""
        return [
            FeedEntry("", task_id, 0, Event(line_id, LOG, fields))
            for task_id, line_id, fields in await self._last({i: keys.log(i) for i in task_ids}, count)
        ]

    async def steps_of(self, task_id: str) -> list[FeedEntry]:
        """Return the steps of a task, as events of the kind `step`; the second number of an id is that of the step."""
        kept = await self._store.kept(task_id)
        return [
            FeedEntry("", task_id, 0, Event(f"{one.noted_ms}-{one.number}", STEP, fields))
            for name, one in kept.steps.items()
            if name.startswith(_STEP_NAME)
            for fields in [{"name": name.removeprefix(_STEP_NAME), "began": str(one.began_ms), "result": one.value}]
        ]

    async def _last(self, streams: Mapping[str, str], count: int) -> list[tuple[str, str, dict[str, str]]]:
        """Return the last `count` entries of each task's stream, in order: (task id, stream id, fields)."""
        replies = await self._store.read(*(("XREVRANGE", key, "+", "-", "COUNT", count) for key in streams.values()))
        return [
            (task_id, entry_id, fields)
            for task_id, entries in zip(streams, replies, strict=True)
            for entry_id, fields in reversed(entries)
        ]

    # --- parts

    async def _records(self, task_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        replies = await self._store.read_over(
            self._connection, [("HGETALL", keys.task(task_id)) for task_id in task_ids]
        )
        # Depending on the protocol's version, the reply is a mapping, or names and values in turn.
        hashes = (reply if isinstance(reply, dict) else dict(zip(*[iter(reply)] * 2, strict=True)) for reply in replies)
        return {task_id: whole(task_id, record) for task_id, record in zip(task_ids, hashes, strict=True)}

    async def _first_after(self, start: str) -> str | None:
        entries = (await self._store.read(("XRANGE", keys.EVENTS, start, "+", "COUNT", 1)))[0]
        return str(entries[0][0]) if entries else None


def _entry(entry_id: str, told: dict[str, str] | list[str]) -> FeedEntry:
    if isinstance(told, list) and told[:8:2] == _BEGIN:
        _, task_id, _, rev, _, event_id, _, kind, *rest = told
        number = int(rev) if rev.isdecimal() else 0
        return FeedEntry(
            entry_id, task_id, number, Event(event_id, kind, dict(zip(rest[::2], rest[1::2], strict=True)))
        )
    # The driver's own reader has paired names and values.
    fields = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
    rev = fields.pop("rev", "0")
    number = int(rev) if rev.isdecimal() else 0
    # What an earlier version wrote names neither: its own id is as good, nobody else has it.
    event_id = fields.pop("event", entry_id)
    task_id, workflow_id = fields.pop("task_id", ""), fields.pop("workflow_id", "")
    return FeedEntry(entry_id, task_id, number, Event(event_id, fields.pop("kind", ""), fields), workflow_id)


def _entries_of(streams: Any) -> Iterable[tuple[str, dict[str, str] | list[str]]]:
    if not streams:
        return ()
    pairs = streams.items() if isinstance(streams, dict) else streams
    return [entry for _, entries in pairs for entry in entries]


def group_of(groups: Any) -> Mapping[str, Any] | None:
    """Return what `XINFO GROUPS` says of the recorders, None if none has read yet."""
    for group in groups:
        if group["name"] == GROUP:
            found: Mapping[str, Any] = group
            return found
    return None


def _lag(entries: int, now_ms: int, oldest: str | None, *, recording: bool, resyncing: bool) -> Lag:
    until_ms = now_ms if oldest is None else int(oldest.partition("-")[0])
    return Lag(entries, max(now_ms - until_ms, 0) / 1000, recording, resyncing, until_ms)
