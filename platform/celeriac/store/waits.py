"""What a task waits for, as the store has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from celeriac.errors import TaskNotFoundError
from celeriac.limits.rules import Limits
from celeriac.model import AwaitedSignal, AwaitedTime, Delivery, Dependency, Pause, Status, WorkerInfo
from celeriac.store import keys
from celeriac.store.code import code_of, knowing
from celeriac.store.reading import serving
from celeriac.store.records import limits_from_json, pause_from_json
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import status_of

#: At most this many waiting tasks of a group are looked at.
_LOOKED_AT: Final = 500


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
    limits: Limits | None = None
    #: How many tasks of its group run.
    running: int = 0
    #: When the group's rate lets it start at the earliest, if that is not now (ms).
    starts_ms: int | None = None
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
    status, group, task_type, delivery, due_ms, position, paused, limits, running, starts_ms, replaced_by = map(
        str, facts
    )
    known = {
        "due_ms": int(float(due_ms)) if due_ms else None,
        "position": int(position) if position else None,
        "pause": pause_from_json(paused) if paused else None,
        "limits": limits_from_json(limits) if limits else None,
        "running": int(running),
        "starts_ms": int(starts_ms) if starts_ms else None,
        "replaced_by": replaced_by or None,
    }
    waits = Waits(status_of(status), group, task_type, delivery, **known)  # type: ignore[arg-type]
    if waits.status is Status.PENDING:
        return await _with_workers(store, waits)
    return await _with_parents(store, task_id, waits) if waits.status is Status.WAITING else waits


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
