"""What a task waits for, as the store has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import TaskNotFoundError
from celeriac.limits.rules import By, StartRate
from celeriac.model import AwaitedSignal, AwaitedTime, Delivery, Dependency, Pause, Status, WorkerInfo, utc_from_ms
from celeriac.store import keys
from celeriac.store.records import pause_from_json
from celeriac.store.suspension import awaited_from, question_from
from celeriac.store.takers import read_takers
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import status_of

#: So often a task is looked at that waits for something which comes in the same moment.
_LOOKS: Final = 5
#: At most this many waiting tasks of a group are looked at.
_LOOKED_AT: Final = 500


@dataclass(frozen=True, slots=True)
class FullRule:
    """A rule that has no room for a task now, and why: what does not apply is None.

    `rule` is None where somebody else's service told a key, or a group, to wait. `key` is the key or user that the rule
    counts for.
    """

    rule: str | None
    by: By
    key: str | None
    #: How many run, of how many that may.
    running: int | None = None
    max_running: int | None = None
    #: The rate, and when it lets the task start at the earliest (ms).
    rate: StartRate | None = None
    starts_ms: int | None = None
    #: The task that has the turn of an ordered rule.
    holder: str | None = None
    #: Until when the key is closed (ms).
    closed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OpenSignal:
    """A signal that a task waits for. `users` may send it besides the task's owner and admins."""

    signal: str
    title: str | None
    since: datetime | None
    expires_at: datetime | None
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenDependency:
    """The end of another task that a task waits for; `status` is None if that one has left the store."""

    on: Dependency
    status: Status | None
    #: Its name in its workflow.
    node: str | None


@dataclass(frozen=True, slots=True)
class Waits:
    """What a task waits for. Everything but the workers and the parents is of one moment."""

    status: Status
    group: str
    type: str
    delivery: str
    #: When it is due, if it waits for a time (ms).
    due_ms: int | None = None
    #: Its place among those that wait in its group, 1 is next; None if it does not wait there.
    position: int | None = None
    pause: Pause | None = None
    #: The rules that have no room for it.
    limits: tuple[FullRule, ...] = ()
    #: What has taken the place of the task and will end in it.
    replaced_by: str | None = None
    #: Whether it needs no worker at all, such as a task of the type `wait`.
    unattended: bool = False
    #: The workers that serve its group and take tasks of its delivery, and how many of them know its type.
    serving: int = 0
    knowing: int = 0
    #: How many workers of its group an operator has drained.
    drained: int = 0
    #: What it waits for, if it is WAITING: the ends of other tasks, signals, and times.
    parents: tuple[OpenDependency, ...] = ()
    signals: tuple[OpenSignal, ...] = ()
    times: tuple[AwaitedTime, ...] = ()


async def read_waits(store: TaskStore, task_id: str) -> Waits:
    """Return what a task waits for; raises `TaskNotFoundError`."""
    if keys.record_of_nobody(task_id):
        raise TaskNotFoundError(task_id)
    for _ in range(_LOOKS):
        waits = await _read_waits(store, task_id)
        if waits.status is not Status.WAITING or waits.parents or waits.signals or waits.times:
            break
    return waits


async def _read_waits(store: TaskStore, task_id: str) -> Waits:
    facts = await store.why(task_id)
    if not facts:
        raise TaskNotFoundError(task_id)
    status, group, task_type, delivery, due_ms, position, paused, limits, replaced_by = map(str, facts)
    known = {
        "due_ms": int(float(due_ms)) if due_ms else None,
        "position": int(position) if position else None,
        "pause": pause_from_json(paused) if paused else None,
        "limits": tuple(_full_rule(one) for one in json_text.read(limits)) if limits else (),
        "replaced_by": replaced_by or None,
    }
    waits = Waits(status_of(status), group, task_type, delivery, **known)  # type: ignore[arg-type]
    if waits.status is not Status.PENDING:
        (unattended,) = await store.read(("HEXISTS", keys.task(task_id), "awaits"))
        waits = replace(waits, unattended=bool(unattended))
    if waits.status is Status.WAITING:
        waits = await _with_conditions(store, task_id, waits)
    return waits if waits.status.final or waits.status is Status.PROCESSING else await _with_workers(store, waits)


def _full_rule(noted: Mapping[str, Any]) -> FullRule:
    def number(name: str) -> int | None:
        return int(noted[name]) if name in noted else None

    return FullRule(
        rule=noted.get("rule"),
        by=By(noted["by"]),
        key=noted.get("bucket") or None,
        running=number("running"),
        max_running=number("max_running"),
        rate=StartRate(noted["rate"], noted["per_ms"]) if "rate" in noted else None,
        starts_ms=number("starts_ms"),
        holder=noted.get("holder"),
        closed_ms=number("closed_ms"),
    )


async def unknown_types(store: TaskStore, group: str, workers: Sequence[WorkerInfo]) -> dict[str, int]:
    """Return the types that no worker of a group knows, of the first tasks that wait there, with how many these are.

    A group that no worker serves has none: that is said of the group.
    """
    (ids,) = await store.read(("ZRANGE", keys.waiting(group), 0, _LOOKED_AT - 1))
    found = await store.read_records(*(("HMGET", keys.task(task_id), "type", "delivery") for task_id in ids))
    takers = await read_takers(store, workers)
    counted = Counter(str(name) for name, delivery in found if name and delivery != Delivery.EXTERNAL)
    counts = {name: takers.count(group, name, "") for name in counted}
    return {name: counted[name] for name, (serve, know) in counts.items() if serve and not know}


async def _with_workers(store: TaskStore, waits: Waits) -> Waits:
    takers = await read_takers(store)
    serve, know = takers.count(waits.group, waits.type, waits.delivery)
    return replace(waits, serving=serve, knowing=know, drained=takers.drained(waits.group, waits.delivery))


async def _with_conditions(store: TaskStore, task_id: str, waits: Waits) -> Waits:
    (conditions,) = await store.read(("HGETALL", keys.open_conditions(task_id)))
    awaited = awaited_from(conditions)
    dependencies = [one for one in awaited if isinstance(one, Dependency)]
    signals = [one for one in awaited if isinstance(one, AwaitedSignal)]
    found = await store.read_records(*(("HMGET", keys.task(one.task_id), "status", "node") for one in dependencies))
    since_ms = await store.read(*(("ZSCORE", keys.WAITS, f"{one.signal} {task_id}") for one in signals))
    return replace(
        waits,
        parents=tuple(
            OpenDependency(one, status_of(status) if status else None, node)
            for one, (status, node) in zip(dependencies, found, strict=True)
        ),
        signals=tuple(
            OpenSignal(
                one.signal,
                one.title,
                None if since is None else utc_from_ms(int(float(since))),
                one.expires_at,
                tuple(question_from(conditions[f"signal:{one.signal}"]).get("users") or ()),
            )
            for one, since in zip(signals, since_ms, strict=True)
        ),
        times=tuple(one for one in awaited if isinstance(one, AwaitedTime)),
    )
