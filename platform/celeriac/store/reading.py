"""Lookups of tasks, groups and workers; nothing here changes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError, TaskNotFoundError, WorkerNotFoundError
from celeriac.limits.rules import group_rule
from celeriac.model import (
    Delivery,
    Dependency,
    Event,
    GroupStats,
    LogLine,
    Parent,
    Status,
    Submitted,
    Task,
    WorkerInfo,
    utc_from_ms,
)
from celeriac.store import keys
from celeriac.store.life import event_commands, events_from, whole
from celeriac.store.owners import OWNERS_COMMAND, Owners, owners_from
from celeriac.store.records import (
    limits_of_groups,
    log_line_from_entry,
    parent_from_hash,
    pause_from_json,
    task_from_hash,
    worker_from_hash,
)
from celeriac.store.server.connection import StoreConnection
from celeriac.store.suspension import (
    Kept,
    KeptStep,
    Noted,
    OpenWait,
    awaited_from,
    moment_of,
    noted_from,
    question_from,
    schema_of,
    signal_from,
    steps_from,
)
from celeriac.task_fields import DEPENDENCIES, status_of

#: The indexes that a group's statistics count.
_COUNTED: Final = (keys.waiting, keys.remote, keys.remote_parked, keys.running)
#: A list has at most this many groups.
MOST_LISTED: Final = 1000
#: How far the clock of a server may be behind that of the one whose place it took (s).
_CLOCKS_S: Final = 60


class StoreReader(StoreConnection):
    """A connection with the lookups."""

    # --- tasks

    async def get(self, task_id: str) -> Task:
        """Return the record; raises `TaskNotFoundError`."""
        record = await self.record(task_id)
        if "status" not in record:
            raise TaskNotFoundError(task_id)
        task = task_from_hash(record)
        return (await self.with_waits([task]))[0] if task.status is Status.WAITING else task

    async def record(self, task_id: str) -> dict[str, str]:
        """Return the record as the store's texts, with what a short one leaves out; empty if there is none."""
        if keys.record_of_nobody(task_id):
            return {}
        return whole(task_id, (await self.read_records(("HGETALL", keys.task(task_id))))[0])

    async def with_waits(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks, those that are WAITING with what they wait for; at most one round trip."""
        waiting = [task.task_id for task in tasks if task.status is Status.WAITING]
        found = await self.read(*(("HGETALL", keys.open_conditions(task_id)) for task_id in waiting))
        opened = {task_id: awaited_from(items) for task_id, items in zip(waiting, found, strict=True)}
        # One without conditions has been released meanwhile.
        return [replace(task, waiting_for=opened.get(task.task_id) or None) for task in tasks]

    async def parents(self, dependencies: Sequence[Dependency]) -> dict[str, Parent]:
        """Return the tasks that another one depends on, by id, as far as the store has them; one round trip."""
        names = ("status", "result", "error_code", "error_message", "error_retryable", "workflow_id", "node")
        found = await self.read_records(*(("HMGET", keys.task(one.task_id), *names) for one in dependencies))
        return {
            one.task_id: parent_from_hash(dict(zip(names, values, strict=True)))
            for one, values in zip(dependencies, found, strict=True)
            if values[0] is not None
        }

    async def dependencies(self, task_id: str) -> Sequence[Dependency]:
        """Return what a task depends on, nothing if the store does not have the task."""
        if keys.record_of_nobody(task_id):
            return ()
        text = (await self.read_records(("HMGET", keys.task(task_id), "depends_on")))[0][0]
        return DEPENDENCIES.read(text) if text else ()

    async def owner(self, task_id: str) -> tuple[bool, str | None]:
        """Return whether there is a task with this id, and its user (None: it has none)."""
        if keys.record_of_nobody(task_id):
            return False, None
        status, user_id = (await self.read_records(("HMGET", keys.task(task_id), "status", "user_id")))[0]
        return status is not None, user_id or None

    async def known(self, task_ids: Sequence[str]) -> list[bool]:
        """Return for each id whether the store holds its record."""
        found = await self.read(*(("EXISTS", keys.task(task_id)) for task_id in task_ids))
        return [
            bool(exists) and not keys.record_of_nobody(task_id) for task_id, exists in zip(task_ids, found, strict=True)
        ]

    async def checkpoint(self, task_id: str) -> str | None:
        """Return the checkpoint that the last attempt of a task set, or None."""
        return (await self.read(("GET", keys.checkpoint(task_id))))[0] or None

    async def position(self, task: Task) -> int | None:
        """Return the task's place among those that wait in its group (1 is next), or None if it does not wait there."""
        remote = task.delivery == Delivery.REMOTE
        if not remote:
            rank = await self._patiently(lambda: self.redis.zrank(keys.waiting(task.group), task.task_id))
            return None if rank is None else rank + 1
        indexes = (keys.remote(task.group), keys.remote_parked(task.group))
        scores = [score for score in await self.read(*(("ZSCORE", key, task.task_id) for key in indexes)) if score]
        if not scores:
            return None
        ahead = await self.read(*(("ZCOUNT", index, "-inf", f"({scores[0]}") for index in indexes))
        return sum(map(int, ahead)) + 1

    async def made_under(self, user_id: str | None, idempotency_key: str) -> Submitted | None:
        """Return the task that was submitted with this key, or None. A submission with the key decides for itself."""
        key = keys.idempotency(user_id or "", idempotency_key)
        task_id = await self._patiently(lambda: self.redis.get(key))
        if task_id is None:
            return None
        status = (await self.read_records(("HGET", keys.task(task_id), "status")))[0]
        return None if status is None else Submitted(task_id, status_of(status), created=False)

    async def events(self, task_id: str, after: str = "-", count: int = 500) -> list[Event]:
        """Return up to `count` events after the stream id `after` (exclusive; `-` means: from the first one held)."""
        start = "-" if after == "-" else f"({after}"
        told, entries = await self.read_records(*event_commands(task_id, "XRANGE", start, "+", "COUNT", count))
        return events_from(told, entries, after)[:count]

    async def workflow_events(self, workflow_id: str, after: str = "-", count: int = 500) -> list[Event]:
        """Return up to `count` events of a workflow's nodes, as `events` does those of a task."""
        start = "-" if after == "-" else f"({after}"
        entries = await self._patiently(lambda: self.redis.xrange(keys.workflow_events(workflow_id), start, "+", count))
        return [Event(entry_id, fields.pop("kind", ""), fields) for entry_id, fields in entries]

    async def event_bounds(self, task_id: str) -> tuple[str | None, str | None]:
        """Return the ids of the first and the last event held, or None if there are none."""
        last = ("XREVRANGE", keys.task_events(task_id), "+", "-", "COUNT", 1)
        told, first, end = await self.read_records(*event_commands(task_id, "XRANGE", "-", "+", "COUNT", 1), last)
        # What is written out between two of the commands begins with what the record said.
        events = events_from(told, first) or events_from(told, end)
        return (events[0].id, str(end[0][0]) if end else events[-1].id) if events else (None, None)

    async def is_past(self, position: tuple[int, int]) -> bool:
        """Return whether an id of a stream may have been given already, by this server or by one that it replaced."""
        ((seconds, _),) = await self.read(("TIME",))
        return position[0] // 1000 <= int(seconds) + _CLOCKS_S

    async def log_lines(self, task_id: str, after: str = "-", count: int = 500) -> list[LogLine]:
        """Return up to `count` lines of the task's log after the stream id `after` (exclusive; `-`: from the first)."""
        start = "-" if after == "-" else f"({after}"
        entries = await self._patiently(lambda: self.redis.xrange(keys.log(task_id), start, "+", count))
        return [log_line_from_entry(entry_id, fields) for entry_id, fields in entries]

    # --- suspended attempts

    async def kept(self, task_id: str) -> Kept:
        """Return all that a task keeps: steps, sleeps, children, and the signals that it received; one round trip."""
        (seconds, micros), steps, signals = await self.read(
            ("TIME",), ("HGETALL", keys.steps(task_id)), ("HGETALL", keys.signals(task_id))
        )
        return Kept(
            steps={name: noted_from(text) for name, text in steps.items()},
            signals={name: signal_from(text) for name, text in signals.items()},
            now_ms=int(seconds) * 1000 + int(micros) // 1000,
        )

    async def signals(self, task_id: str, *names: str) -> dict[str, Noted]:
        """Return those signals of these names that a task has received; one round trip."""
        found = await self._patiently(lambda: self.redis.hmget(keys.signals(task_id), names))
        return {name: signal_from(text) for name, text in zip(names, found, strict=True) if text is not None}

    async def steps(self, task_id: str, *, after: int = 0, count: int = 1000) -> list[KeptStep]:
        """Return up to `count` finished steps of a task, in the order of their ends; `after` the one of this number.

        A task that is not in the store has none.
        """
        (entries,) = await self.read(("HGETALL", keys.steps(task_id)))
        return [step for step in steps_from(entries) if step.number > after][:count]

    async def waits(
        self, user_id: str | None, *, after: tuple[int, str] | None = None, count: int = 100
    ) -> tuple[list[OpenWait], tuple[int, str] | None]:
        """Return a page of the signals that a user may send (None: all signals), the longest waits first.

        Also returns where the next page begins: the `after` of it, None if there are no more.
        """
        index = keys.WAITS if user_id is None else keys.waits_of(user_id)
        found = await self._waiting_signals(index, after, count + 1)
        names = [member.partition(" ") for member, _ in found[:count]]
        replies = await self.read_records(
            *(
                command
                for signal, _, task_id in names
                for command in (
                    ("HMGET", keys.task(task_id), "type", "user_id"),
                    ("HGET", keys.open_conditions(task_id), f"signal:{signal}"),
                )
            )
        )
        waits = []
        for i, ((signal, _, task_id), (_, since_ms)) in enumerate(zip(names, found, strict=False)):
            (task_type, owner), text = replies[2 * i], replies[2 * i + 1]
            # One that is not open any more has been answered meanwhile.
            if task_type and text:
                question = question_from(text)
                waits.append(
                    OpenWait(
                        task_id=task_id,
                        type=task_type,
                        user_id=owner,
                        signal=signal,
                        since=utc_from_ms(since_ms),
                        title=question.get("title"),
                        schema=schema_of(question),
                        users=tuple(question.get("users") or ()),
                        expires_at=moment_of(question),
                    )
                )
        member, since_ms = found[count - 1] if len(found) > count else ("", 0)
        return waits, (since_ms, member) if member else None

    async def _waiting_signals(self, index: str, after: tuple[int, str] | None, count: int) -> list[tuple[str, int]]:
        """Return up to `count` members of an index of signals with their times (ms), after this one."""
        found: list[tuple[str, int]] = []
        (offset,) = (0,) if after is None else await self.read(("ZCOUNT", index, "-inf", f"({after[0]}"))
        while len(found) < count:
            page = await self._patiently(
                lambda: self.redis.zrange(index, offset, offset + count - 1, withscores=True)  # noqa: B023
            )
            pairs = [(str(member), int(score)) for member, score in page]
            found += [pair for pair in pairs if after is None or (pair[1], pair[0]) > after]
            if len(page) < count:
                break
            offset += count
        return found[:count]

    # --- groups and workers

    async def group_names(self) -> list[str]:
        """Return the groups that ever had a task, sorted."""
        return sorted(await self._patiently(lambda: self.redis.smembers(keys.GROUPS)))

    async def page_of_groups(self, groups: str, cursor: int, most: int) -> tuple[int, list[str]]:
        """Return about `most` names of a set of groups from `cursor` on (0: the first), and the next page's cursor."""
        following, found = (await self.read(("SSCAN", groups, cursor, "COUNT", most)))[0]
        return int(following), [str(name) for name in found]

    async def awake_groups(self, cursor: int = 0, most: int = 1000) -> tuple[int, list[str]]:
        """Return a page of the groups that workers of all groups serve at present; see `page_of_groups`."""
        return await self.page_of_groups(keys.AWAKE, cursor, most)

    async def owners(self) -> Owners:
        """Return which apps own groups, by the notes that are valid."""
        (seconds, _), notes = await self.read(("TIME",), OWNERS_COMMAND)
        return owners_from(notes, int(seconds) * 1000)

    async def is_known(self, name: str) -> bool:
        """Return whether the group has tasks, or had some lately, or an operator paused or limited it."""
        found = await self.read(
            ("SISMEMBER", keys.GROUPS, name), ("HEXISTS", keys.PAUSED, name), ("HEXISTS", keys.RULES, group_rule(name))
        )
        return any(found)

    async def groups(self, *, also: Iterable[str] = ()) -> list[GroupStats]:
        """Return the groups that have tasks or workers, and those named in `also`, sorted by name.

        If there are very many, they are the first `MOST_LISTED`; `also`, paused and limited groups come before others.
        """
        return (await self.groups_and_left_out(also=also))[0]

    async def groups_and_left_out(self, *, also: Iterable[str] = ()) -> tuple[list[GroupStats], int]:
        """Return what `groups` returns, and how many groups it left out."""
        workers = await self.workers()
        known, paused, rules = await self.read(
            ("SMEMBERS", keys.GROUPS), ("HKEYS", keys.PAUSED), ("HGETALL", keys.RULES)
        )
        first = {*also, *paused, *limits_of_groups(rules)}
        others = {*known, *(group for worker in workers for group in worker.groups if group != "*")} - first
        names = [*sorted(first), *sorted(others)]
        return await self._group_stats(sorted(names[:MOST_LISTED]), workers), max(len(names) - MOST_LISTED, 0)

    async def group(self, name: str, workers: Sequence[WorkerInfo] | None = None) -> GroupStats:
        """Return one group; an unknown group is empty. `workers` are all that there are, if the caller knows them."""
        return (await self._group_stats([name], await self.workers() if workers is None else workers))[0]

    async def _group_stats(self, names: Iterable[str], workers: Sequence[WorkerInfo]) -> list[GroupStats]:
        names = list(names)
        (seconds, _), notes, paused, rules, *counts = await self.read(
            ("TIME",),
            OWNERS_COMMAND,
            ("HGETALL", keys.PAUSED),
            ("HGETALL", keys.RULES),
            *(("ZCARD", key(name)) for name in names for key in _COUNTED),
        )
        limits = limits_of_groups(rules)
        owners = owners_from(notes, int(seconds) * 1000)
        return [
            GroupStats(
                name,
                waiting=celery + remote + parked,
                running=running,
                workers=len(its := serving(name, workers, owners)),
                unserved=self.unserved(name, celery, remote + parked, its),
                pause=pause_from_json(paused[name]) if name in paused else None,
                limits=limits.get(name),
            )
            for i, name in enumerate(names)
            for celery, remote, parked, running in [counts[4 * i : 4 * i + 4]]
        ]

    def unserved(self, group: str, waiting: int, remote: int, workers: Sequence[WorkerInfo]) -> int:
        """Return how many waiting tasks of a group none of its `workers` can take.

        `remote` of the tasks wait for remote workers, `waiting` for other workers. The programs that serve an external
        group do not announce themselves, so tasks of an external group always count as served.
        """
        kinds = {worker.kind == Delivery.REMOTE for worker in workers}
        nobody = False not in kinds and not self.settings.queues.is_external(group)
        return (waiting if nobody else 0) + (remote if True not in kinds else 0)

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers whose presence is fresh, by id."""
        ids = sorted(await self._patiently(lambda: self.redis.zrange(keys.WORKERS, 0, -1)))
        hashes = await self.read(*(("HGETALL", keys.worker(worker_id)) for worker_id in ids))
        return [worker_from_hash(i, fields) for i, fields in zip(ids, hashes, strict=True) if fields]

    async def worker(self, worker_id: str) -> WorkerInfo:
        """Return one worker whose presence is fresh; raises `WorkerNotFoundError`."""
        fields = (await self.read(("HGETALL", keys.worker(worker_id))))[0]
        if "started_ms" not in fields:
            raise WorkerNotFoundError(worker_id)
        return worker_from_hash(worker_id, fields)

    async def task_types(self) -> dict[str, dict[str, Any]]:
        """Return the task types that workers announced, by name."""
        found = await self._patiently(lambda: self.redis.hgetall(keys.TYPES))
        types: dict[str, dict[str, Any]] = {}
        for name, text in found.items():
            # What another version announced must not break submissions.
            with suppress(JsonError):
                if isinstance(facts := json_text.read(text), dict):
                    types[name] = facts
        return types


def serving(group: str, workers: Sequence[WorkerInfo], owners: Owners) -> list[WorkerInfo]:
    """Return those of `workers` that serve the group.

    One that follows the groups serves it as soon as it has tasks, unless it is a group of other apps.
    """
    return [
        worker
        for worker in workers
        if group in worker.groups or (worker.follows and not owners.are_others(group, worker.app))
    ]
