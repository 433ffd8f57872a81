"""Workers of a version of the code, as far as the store sees them: what they announce, and that they live."""

from __future__ import annotations

from celery import Celery

from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.declared_schedule import Schedules, scheduled
from celeriac.tasks.key_source import KeySource
from celeriac.tasks.parameters import parameters_of
from celeriac.tasks.registry import Registry
from celeriac.tasks.task_type import TaskType
from celeriac_tasks.engine.announcing import CodeAnnouncer


def handler(n: int = 0) -> int:
    """Return what it was given."""
    return n


def version(*, group: str = "default", key_from: KeySource | None = None, **types: Schedules) -> Registry:
    """Return the types of a version of the code, each with its schedules, and all with keys from `key_from`."""
    parameters, payload = parameters_of("any", handler)
    plain = {"payload": payload, "handler": handler, "parameters": parameters, "group": group, "key": key_from}
    return Registry(scheduled(TaskType(name, **plain), given) for name, given in types.items())  # type: ignore[arg-type]


async def worker_starts(
    store: TaskStore, worker: str, registry: Registry, groups: str = "default", *, plain: tuple[str, ...] = ()
) -> None:
    """Let a worker be there that has just started with this version; `plain` are its plain Celery tasks."""
    app = Celery(set_as_current=False)
    app.celeriac_registry = registry
    for name in plain:
        app.task(handler, name=name, shared=False)
    announcer = CodeAnnouncer(store=store, app=app, noted=lambda: None)
    await announcer.step()
    facts = {"kind": "celery", "groups": groups, "started_ms": "1", "follows": "0", "app": "celeriac"}
    await store.renew(worker, [], {**facts, **announcer.facts})


async def workers_are_gone(store: TaskStore, *workers: str) -> None:
    """Let workers be gone, as after their deaths or their ends."""
    for worker in workers:
        await store.read(("DEL", keys.worker(worker)), ("ZREM", keys.WORKERS, worker))
