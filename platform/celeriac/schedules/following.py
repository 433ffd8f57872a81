"""Keeps the definitions of `@task(schedule=...)` as the code of the running workers has them.

Workers say which schedules their code has (`store/code.py`), beats compare that with the database. Any number of both
may run. While two versions of the code run, the worker that was started last among those that know a type decides
about its schedules. Nothing changes while no worker runs.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from celeriac.errors import HistoryUnavailableError, InvalidSubmissionError
from celeriac.model import WorkerInfo
from celeriac.schedules import transitions
from celeriac.schedules.definition import PLACE, Decision, Definition, DefinitionChange, Open
from celeriac.schedules.read_only import OVER, is_current, owned_definition, owned_id, removed, updated
from celeriac.schedules.request import DefinitionRequest, build_spec
from celeriac.schedules.scheduler import Clock
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.settings import Settings
from celeriac.store.code import Code, celery_workers, code_of, knowing
from celeriac.store.owners import Owners
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import KnownTypes
from celeriac.tasks.registry import Registry

log = logging.getLogger(__name__)

_NAMESPACE: Final = uuid.UUID("8e0d6a5c-6f0b-4c59-9a0a-3b8f6f7f2c15")
_ACTOR: Final = "code"
#: Pause between two looks (seconds).
_LOOK_S: Final = 2.0


class CodeFollower(Role):
    """Makes, changes and ends the definitions that follow the code; see this module."""

    def __init__(self, *, store: TaskStore, definitions: DefinitionTable, settings: Settings, clock: Clock) -> None:
        super().__init__()
        self._store = store
        self._definitions = definitions
        self._settings = settings
        self._clock = clock
        #: Since when no worker knows the type of a definition (ms), by its id, as far as this process has seen.
        self._unknown_since: dict[str, int] = {}
        #: What was logged of schedules that cannot fire, so that it is logged once.
        self._refused: dict[str, str] = {}

    async def step(self) -> float:
        """Compare once; wait if the database is away."""
        try:
            await self._step()
        except HistoryUnavailableError as exc:
            log.debug("schedules of the code wait for the database: %s", exc)
        return _LOOK_S

    async def _step(self) -> None:
        workers = [worker for worker in await self._store.workers() if worker.kind == "celery"]
        codes = await code_of(self._store, workers)
        known = {definition.definition_id: definition for definition in await self._definitions.all_from("code")}
        if not workers or not (known or any(code.scheduled for code in codes.values())):
            return
        now_ms = await self._clock()
        deciding = deciding_workers(workers, codes)
        wanted: dict[str, Definition] = {}
        for task_type, worker in deciding.items():
            if told := codes[worker.code].scheduled.get(task_type):
                wanted |= await asyncio.to_thread(self._wanted, task_type, told, now_ms)
        for definition_id, definition in wanted.items():
            await self._follow(known.get(definition_id), definition, now_ms)
        owners = await self._store.owners()
        for definition_id, definition in known.items():
            if definition_id not in wanted and definition.status not in OVER:
                await self._end_if_gone(definition, workers, codes, owners, now_ms)
        self._unknown_since = {one: ms for one, ms in self._unknown_since.items() if one in known and one not in wanted}

    def _wanted(self, task_type: str, told: Mapping[str, Any], now_ms: int) -> dict[str, Definition]:
        """Return the definitions of one type as its code says; one that cannot fire is logged and left out."""
        found: dict[str, Definition] = {}
        for number, schedule in enumerate(told["schedules"]):
            own = schedule.get("name") or (str(number + 1) if number else None)
            name = task_type if own is None else f"{task_type} ({own})"
            try:
                definition = self._definition(name, task_type, told, schedule, now_ms)
            except (InvalidSubmissionError, ValueError, LookupError, TypeError) as exc:
                if self._refused.get(name) != str(exc):
                    log.error("the schedule of %s in %s will not fire: %s", name, told.get("place"), exc)
                    self._refused[name] = str(exc)
                continue
            found[definition.definition_id] = definition
        return found

    def _definition(
        self, name: str, task_type: str, told: Mapping[str, Any], schedule: Mapping[str, Any], now_ms: int
    ) -> Definition:
        task = {"type": task_type, "payload": schedule["payload"]}
        if "key" in schedule:
            task["key"] = schedule["key"]
        request = DefinitionRequest(
            **{
                "trigger_type": "LOOP",
                "name": name,
                "task": task,
                **schedule["fields"],
                "metadata": {PLACE: str(told["place"])},
            }
        )
        # This process need not have the code: what the worker says of the type is enough.
        types = KnownTypes(Registry(), {task_type: told["facts"]})
        spec = build_spec(request, self._settings, types, now_ms=now_ms)
        return owned_definition(owned_id(_NAMESPACE, name), source="code", name=name, spec=spec, now_ms=now_ms)

    async def _follow(self, old: Definition | None, new: Definition, now_ms: int) -> None:
        if old is None:
            change = DefinitionChange(now_ms, "create", _ACTOR, None, {})
            if await self._definitions.insert(transitions.begun(new, now_ms, paused=False, change=change)):
                log.info("%s fires as %s says", new.name, new.spec.metadata[PLACE])
        elif not is_current(old, new):
            await self._definitions.change(old.definition_id, partial(_updated, new=new, now_ms=now_ms))

    async def _end_if_gone(
        self,
        definition: Definition,
        workers: Sequence[WorkerInfo],
        codes: Mapping[str, Code],
        owners: Owners,
        now_ms: int,
    ) -> None:
        """End a definition whose type has no such schedule any more, or that no worker of its group knows any more."""
        task_type = str(definition.spec.run["type"])
        is_known = bool(knowing(task_type, workers, codes))
        if is_known:
            self._unknown_since.pop(definition.definition_id, None)
            if task_type not in deciding_workers(workers, codes):
                # Only workers that do not say what they know.
                return
        else:
            since_ms = self._unknown_since.setdefault(definition.definition_id, now_ms)
            serving = celery_workers(definition.group, workers, owners)
            if not serving or now_ms - since_ms < self._settings.schedule.code_grace * 1000:
                return
        await self._definitions.change(
            definition.definition_id, partial(_removed, now_ms=now_ms, cancel_open=not is_known)
        )


def deciding_workers(workers: Sequence[WorkerInfo], codes: Mapping[str, Code]) -> dict[str, WorkerInfo]:
    """Return for each type the worker that decides about its schedules: the one that was started last. Pure."""
    found: dict[str, WorkerInfo] = {}
    for worker in sorted(workers, key=lambda worker: (worker.code_ms, worker.worker_id)):
        if (code := codes.get(worker.code)) is not None:
            found.update(dict.fromkeys(code.types, worker))
    return found


def _updated(old: Definition, unended: Open, *, new: Definition, now_ms: int) -> Decision | None:
    return updated(old, new, unended, now_ms, actor=_ACTOR)


def _removed(definition: Definition, _: Open, *, now_ms: int, cancel_open: bool) -> Decision | None:
    note = f"it is no longer in the code: {definition.spec.metadata.get(PLACE)} has no such schedule"
    return removed(definition, now_ms, actor=_ACTOR, note=note, cancel_open=cancel_open)
