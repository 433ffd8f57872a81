"""What changes on the platform, for dashboards: read once per process, for any number of watchers.

A few times a second, a fixed number of the newest entries of the global stream is read. So thousands of tasks per
second cost no more than a hundred; watchers get the number of changes that were left out. Rates come from the counts
of the transitions and are exact at any speed. Nothing is read while nobody watches.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from celeriac.model import GroupStats, Status, Task, WorkerInfo
from celeriac.settings import PagesSettings
from celeriac.store import keys
from celeriac.store.counts import StoreCounts, counts_of
from celeriac.store.records import task_from_hash
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.titles import TaskTitles
from celeriac.store.watching.wakeups import FeedReader
from celeriac.task_fields import LISTED

#: Entries of the stream that one look reads, as a multiple of the tasks that watchers get.
_ENTRIES_PER_TASK: Final = 4
#: Seconds between two looks at groups, workers and counts.
_STATE_S: Final = 1.0
#: Rates that a new watcher gets, and that are kept for a slow one (about one per second).
_RATES: Final = 300
#: How many records are read at once where they are bounded in bytes.
_RECORDS_AT_ONCE: Final = 200
#: Titles that are kept, the longest payload that one is made of here (bytes), and what it is made of.
_TITLES: Final = 10_000
_PAYLOAD: Final = 16 * 1024
_TITLE_OF: Final = ("type", "payload", "secret_fields")
#: A task of these statuses may get another payload.
_REPLACEABLE: Final = (Status.PENDING, Status.SCHEDULED, Status.WAITING)
#: With more counts than this, they are read less often.
_MANY_COUNTS: Final = 2000


@dataclass(frozen=True, slots=True)
class ActivityRate:
    """What happened in the `span_ms` before `at_ms` (server time)."""

    at_ms: int
    span_ms: int
    submitted: int
    started: int
    completed: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class PlatformActivity:
    """The present groups and workers; `delayed` tasks wait for a time."""

    groups: list[GroupStats]
    workers: list[WorkerInfo]
    delayed: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Changed tasks, newest change first, without their large fields; `left_out` counts what is missing."""

    #: Id of the newest entry that was read: where to read on.
    position: str
    tasks: list[Task]
    left_out: int


@dataclass(slots=True, eq=False)
class Watcher:
    """The mailbox of one watcher: a bounded number of tasks that it has not taken yet, each once."""

    most: int
    #: Only tasks of this user; None means: of all users.
    user_id: str | None = None
    position: str = ""
    left_out: int = 0
    state: PlatformActivity | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    rates: deque[ActivityRate] = field(default_factory=lambda: deque(maxlen=_RATES))
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, changes: Changes) -> None:
        """Add changes. A task's last change replaces earlier ones; the oldest are dropped if there are too many."""
        self.position = changes.position
        self.left_out += changes.left_out
        for task in reversed(changes.tasks):
            if self.user_id is None or task.user_id == self.user_id:
                self.tasks.pop(task.task_id, None)
                self.tasks[task.task_id] = task
        while len(self.tasks) > self.most:
            self.tasks.pop(next(iter(self.tasks)))
            self.left_out += 1
        self.woken.set()

    def take(self) -> Changes | None:
        """Return what changed since the last call, or None."""
        if not self.tasks and not self.left_out:
            return None
        taken = Changes(self.position, list(reversed(self.tasks.values())), self.left_out)
        self.tasks, self.left_out = {}, 0
        return taken


class ActivityFeed(FeedReader):
    """Reads for all watchers of this process, a few times a second; it sleeps while there are none."""

    def __init__(self, *, store: TaskStore, pages: PagesSettings, titles: TaskTitles) -> None:
        super().__init__(at_once=1)
        self._titles = titles
        #: The titles of the tasks that changed last, by their ids.
        self._titled: dict[str, str | None] = {}
        self._store = store
        self._settings = pages
        self._watchers: set[Watcher] = set()
        #: How many streams each caller has. The routes count a stream before they send its first event.
        self.streams: Counter[str] = Counter()
        self._closed = False
        self._position = ""
        #: How many entries were ever added to the stream; None before Redis 7, which cannot tell.
        self._added: int | None = None
        self._counts: tuple[int, StoreCounts] | None = None
        self._state: PlatformActivity | None = None
        self._state_due_s = 0.0
        self._rates: deque[ActivityRate] = deque(maxlen=_RATES)

    @property
    def closed(self) -> bool:
        """Whether the process is about to stop, so that watchers should leave."""
        return self._closed

    def close_streams(self) -> None:
        """Wake all watchers for the last time."""
        self._closed = True
        for watcher in self._watchers:
            watcher.woken.set()

    async def watch(self, *, after: str | None = None, repeat_s: float = 0.0, user_id: str | None = None) -> Watcher:
        """Return a new mailbox with the present state and the changes after the position `after`; see `leave`.

        Without a position it has those of the last `repeat_s` seconds.
        """
        watcher = Watcher(most=self._settings.live_tasks, user_id=user_id)
        self._watchers.add(watcher)
        try:
            if len(self._watchers) == 1:
                # What is known dates from the last watcher: begin anew.
                self._position, self._added, self._state, self._state_due_s = "", None, None, 0.0
                self._counts = None
                self._rates.clear()
                self.wake([keys.EVENTS])
            if not after and repeat_s:
                ((seconds, _),) = await self._store.read(("TIME",))
                after = f"{max(int((int(seconds) - repeat_s) * 1000), 0)}-0"
            if after:
                changes, _ = await self._changes(after)
                watcher.put(changes)
        except BaseException:
            self.leave(watcher)
            raise
        watcher.state = self._state
        watcher.rates.extend(self._rates)
        watcher.woken.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Stop filling this mailbox. Idempotent."""
        self._watchers.discard(watcher)

    @property
    def every_s(self) -> float | None:
        """Seconds between two looks; None while nobody watches."""
        return self._settings.live_interval if self._watchers else None

    async def followed(self) -> list[str]:
        """Return the one feed that all watchers follow."""
        return [keys.EVENTS]

    async def look(self, names: Sequence[str]) -> None:
        """Read once for all watchers."""
        if not self._watchers:
            return
        if not self._position:
            (newest,) = await self._store.read(("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1))
            self._position = newest[0][0] if newest else "0-0"
        changes, self._added = await self._changes(self._position, self._added)
        if changes.position != self._position:
            self._position = changes.position
            for watcher in self._watchers:
                watcher.put(changes)
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._state_due_s:
            self._state_due_s = now_s + await self._look_at_state()

    async def _changes(self, after: str, added: int | None = None) -> tuple[Changes, int | None]:
        """Return what changed after a position, and how many entries were ever added."""
        most = self._settings.live_tasks
        info, entries = await self._store.read(
            ("XINFO", "STREAM", keys.EVENTS),
            ("XREVRANGE", keys.EVENTS, "+", f"({after}", "COUNT", most * _ENTRIES_PER_TASK),
            atomic=True,
            errors=True,
        )
        if isinstance(entries, Exception):
            raise entries
        # Without any event there is no stream, and XINFO fails.
        now_added = 0 if isinstance(info, Exception) else _fact(info, "entries-added")
        if not entries:
            return Changes(after, [], 0), now_added
        ids = list(dict.fromkeys(fields["task_id"] for _, fields in entries if "task_id" in fields))
        left_out = max(0, len(ids) - most)
        if added is not None and now_added is not None:
            left_out += max(0, now_added - added - len(entries))
        records = await self._store.read_records(*map(_listed, ids[:most]))
        tasks = await self.with_titles(_tasks(ids, records))
        return Changes(str(entries[0][0]), tasks, left_out), now_added

    async def with_titles(self, tasks: list[Task]) -> list[Task]:
        """Return the tasks with their titles. A payload is read once, and again while another one may replace it."""
        wanted = [task.task_id for task in tasks if task.task_id not in self._titled or task.status in _REPLACEABLE]
        if wanted:
            await self._titles.ready()
            lengths = await self._store.read(*(("HSTRLEN", keys.task(one), "payload") for one in wanted), errors=True)
            sizes = zip(wanted, lengths, strict=True)
            short = [one for one, size in sizes if isinstance(size, int) and size <= _PAYLOAD]
            records = await self._store.read_records(*(("HMGET", keys.task(one), *_TITLE_OF) for one in short))
            for task_id in wanted:
                self._titled.pop(task_id, None)
                self._titled[task_id] = None
            for task_id, values in zip(short, records, strict=True):
                record = {name: value for name, value in zip(_TITLE_OF, values, strict=True) if value is not None}
                self._titled[task_id] = self._titles.of_record(record)
            while len(self._titled) > _TITLES:
                del self._titled[next(iter(self._titled))]
        return [replace(task, title=self._titled.get(task.task_id)) for task in tasks]

    async def _look_at_state(self) -> float:
        """Read groups, workers and rates; returns the seconds until the next such look."""
        time, delayed, fields = await self._store.read(("TIME",), ("ZCARD", keys.DELAYED), ("HGETALL", keys.COUNTS))
        workers = await self._store.workers()
        groups = await self._store.groups(also=("default", *self._store.settings.queues.groups))
        state = PlatformActivity(groups, workers, int(delayed))
        now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
        counts = counts_of(fields)
        if self._counts is not None:
            rate = _rate(now_ms, now_ms - self._counts[0], counts, self._counts[1])
            self._rates.append(rate)
            for watcher in self._watchers:
                watcher.rates.append(rate)
                watcher.woken.set()
        self._counts = (now_ms, counts)
        if _seen(state) != _seen(self._state):
            self._state = state
            for watcher in self._watchers:
                watcher.state = state
                watcher.woken.set()
        # Callers choose the names of groups; with a thousand groups, this look is expensive.
        return _STATE_S if len(fields) < _MANY_COUNTS else 5 * _STATE_S


async def running_tasks(
    store: TaskStore, limit: int, *, most_bytes: int, user_id: str | None = None
) -> tuple[list[Task], int]:
    """Return up to `limit` running tasks, the last started first, without their large fields.

    They have about `most_bytes` at most; the second value is how many were left out for that.
    With `user_id`, only tasks of this user. The cost grows with the running tasks or with the user's tasks, whichever
    are fewer.
    """
    names = await store.group_names()
    if user_id is None:
        found = await store.read(*(("ZREVRANGE", keys.running(name), 0, limit - 1, "WITHSCORES") for name in names))
    else:
        # The scores are those of the group: the times when the tasks started.
        both = ("WEIGHTS", 1, 0, "WITHSCORES")
        found = await store.read(*(("ZINTER", 2, keys.running(name), keys.active(user_id), *both) for name in names))
    started = sorted(((float(score), task_id) for pairs in found for task_id, score in _pairs(pairs)), reverse=True)
    ids = [task_id for _, task_id in started[:limit]]
    tasks: list[Task] = []
    size = 0
    for start in range(0, len(ids), _RECORDS_AT_ONCE):
        if size > most_bytes:
            return tasks, len(ids) - start
        some = ids[start : start + _RECORDS_AT_ONCE]
        records = await store.read_records(*map(_listed, some))
        size += sum(len(value or "") for record in records for value in record)
        tasks += [task for task in _tasks(some, records) if task.status is Status.PROCESSING]
    return tasks, 0


def _listed(task_id: str) -> tuple[str, ...]:
    """Return the command that reads what lists show of a task."""
    return ("HMGET", keys.task(task_id), "life", *LISTED)


def _tasks(ids: Sequence[str], records: Sequence[Sequence[str | None]]) -> list[Task]:
    """Return those tasks that have a record, from the replies to `_listed`."""
    names = ("life", *LISTED)
    hashes = ({name: value for name, value in zip(names, r, strict=True) if value is not None} for r in records)
    return [
        task_from_hash({"task_id": task_id, **fields})
        for task_id, fields in zip(ids, hashes, strict=False)
        if "status" in fields
    ]


def _pairs(reply: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return members with their scores; depending on the protocol's version they arrive in pairs or flat."""
    if reply and isinstance(reply[0], list | tuple):
        return [(str(member), score) for member, score in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def _fact(info: Any, name: str) -> int | None:
    facts = info if isinstance(info, Mapping) else dict(zip(info[::2], info[1::2], strict=True))
    value = facts.get(name)
    return None if value is None else int(value)


def _rate(at_ms: int, span_ms: int, now: StoreCounts, before: StoreCounts) -> ActivityRate:
    def total(counts: StoreCounts, what: str, status: str | None = None) -> int:
        return sum(n for labels, n in counts.counters.get(what, {}).items() if status is None or labels[-1] == status)

    def more(what: str, status: str | None = None) -> int:
        return max(0, total(now, what, status) - total(before, what, status))

    return ActivityRate(
        at_ms,
        span_ms,
        submitted=more("submitted"),
        started=more("started"),
        completed=more("finished", Status.COMPLETED.stored),
        failed=more("finished", Status.FAILED.stored),
        cancelled=more("finished", Status.CANCELLED.stored),
    )


def _seen(state: PlatformActivity | None) -> Any:
    """Return the state without what is not news for a watcher: when a worker was last seen."""
    if state is None:
        return None
    return state.groups, state.delayed, [replace(worker, seen_at=worker.started_at) for worker in state.workers]
