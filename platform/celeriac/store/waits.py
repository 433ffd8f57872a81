"""What a task waits for, as the store has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import TaskNotFoundError
from celeriac.limits.rules import By, StartRate
from celeriac.model import AwaitedSignal, AwaitedTime, Delivery, Dependency, Pause, Status, WorkerInfo
from celeriac.store import keys
from celeriac.store.code import code_of, knowing
from celeriac.store.reading import serving
from celeriac.store.records import pause_from_json
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import status_of

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
    #: The workers that serve its group and take tasks of its delivery, and how many of them know its type.
    serving: int = 0
    knowing: int = 0
    #: The ends of other tasks that it waits for, and what these tasks do now.
    parents: tuple[tuple[Dependency, Status | None], ...] = ()
    #: The signals and the times that it waits for.
    signals: tuple[AwaitedSignal, ...] = ()
    times: tuple[AwaitedTime, ...] = ()


async def read_waits(store: TaskStore, task_id: str) -> Waits:
    """Return what a task waits for; raises `TaskNotFoundError`."""
    if keys.record_of_nobody(task_id):
        raise TaskNotFoundError(task_id)
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
    if waits.status is Status.PENDING:
        return await _with_workers(store, waits)
    return await _with_parents(store, task_id, waits) if waits.status is Status.WAITING else waits


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
    serve = takers("", serving(group, workers, await store.owners()))
    codes = await code_of(store, serve)
    counted = Counter(str(name) for name, delivery in found if name and delivery != Delivery.EXTERNAL)
    return {name: count for name, count in counted.items() if serve and not knowing(name, serve, codes)}


async def _with_workers(store: TaskStore, waits: Waits) -> Waits:
    workers = await store.workers()
    serve = takers(waits.delivery, serving(waits.group, workers, await store.owners()))
    know = knowing(waits.type, serve, await code_of(store, serve))
    return replace(waits, serving=len(serve), knowing=len(know))


async def _with_parents(store: TaskStore, task_id: str, waits: Waits) -> Waits:
    waiting_for = (await store.get(task_id)).waiting_for or ()
    dependencies = [one for one in waiting_for if isinstance(one, Dependency)]
    found = await store.parents(dependencies)
    return replace(
        waits,
        parents=tuple((one, parent.status if (parent := found.get(one.task_id)) else None) for one in dependencies),
        signals=tuple(one for one in waiting_for if isinstance(one, AwaitedSignal)),
        times=tuple(one for one in waiting_for if isinstance(one, AwaitedTime)),
    )


def takers(delivery: str, workers: Sequence[WorkerInfo]) -> list[WorkerInfo]:
    """Return those of `workers` that take tasks of this delivery: remote workers, or all others."""
    return [worker for worker in workers if (worker.kind == Delivery.REMOTE) == (delivery == Delivery.REMOTE)]
