"""`celeriac adopt --import-schedules`: makes definitions of a project's schedules.

The entries stay where they are, and the project's beat goes on firing them until they are switched off. So a second
import changes nothing: a definition that exists is its owner's, whatever became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from celeriac.database.engine import create_engine
from celeriac.errors import DefinitionNotFoundError, SettingsError
from celeriac.model import Submission
from celeriac.schedules import transitions
from celeriac.schedules.definition import Decision, Definition, DefinitionChange, DefinitionStatus, TaskTriggerType
from celeriac.schedules.request import limits_of
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.schedules.times.budget import TimetableCostError
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms
from celeriac_tasks.adoption import adopt
from celeriac_tasks.adoption.loading import load_project
from celeriac_tasks.moving_in.beat_entries import read_beat_schedule
from celeriac_tasks.moving_in.definitions import definition_of, described
from celeriac_tasks.moving_in.django_entries import disable_django, read_django
from celeriac_tasks.moving_in.entries import Entry, LeftOut, NotImportableError, ScheduleSource
from celeriac_tasks.moving_in.redbeat_entries import disable_redbeat, read_redbeat

_ACTOR: Final = "import"
_FIRING: Final = (DefinitionStatus.ACTIVE, DefinitionStatus.RUNNING)
#: How an entry is switched off where it was.
_BY_HAND: Final = {
    ScheduleSource.BEAT_SCHEDULE: "remove it from beat_schedule (or its add_periodic_task), then restart celery beat",
    ScheduleSource.DJANGO: "untick `enabled` in the admin of django-celery-beat, or use --disable-originals",
    ScheduleSource.REDBEAT: "set `enabled` of its RedBeatSchedulerEntry to False, or use --disable-originals",
}


@dataclass(slots=True)
class _Import:
    """What became of the entries."""

    made: list[tuple[Entry, Definition]] = field(default_factory=list)
    there: list[tuple[Entry, Definition]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def firing_twice(self) -> list[Entry]:
        """Return the entries that both their beat and a definition fire."""
        return [entry for entry, made in [*self.made, *self.there] if entry.enabled and made.status in _FIRING]


def import_schedules(
    project: str,
    *,
    source: str | None = None,
    dry_run: bool = False,
    disable_originals: bool = False,
    user_id: str = "local",
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Import the schedules of a project, and return what became of each entry, JSON-ready.

    Without `source`, its `beat_scheduler` decides where they are read. Raises `SettingsError`, and
    `StoreUnavailableError` or `HistoryUnavailableError` if nothing could be written; a repeated call goes on.
    """
    app = adopt(load_project(project))
    settings = _settings(app, overrides or {})
    found = _Import()
    calls: list[tuple[Entry, Submission]] = []
    for entry in _read(app, source):
        if isinstance(entry, LeftOut):
            found.left_out.append(entry)
            continue
        try:
            calls.append((entry, described(app, entry)))
        except NotImportableError as exc:
            found.left_out.append(LeftOut(entry.name, str(exc)))
    asyncio.run(_store(app, settings, calls, found, dry_run=dry_run, user_id=user_id))
    # Only now: whatever ends this process before has left the originals on, and the next call switches them off.
    disabled = _disable(app, found.firing_twice()) if disable_originals and not dry_run else []
    return _record(project, found, disabled, dry_run=dry_run)


def _settings(app: Any, overrides: Mapping[str, Any]) -> Settings:
    if app.conf.task_always_eager:
        raise SettingsError("task_always_eager is set, so making a call would run it: import without that setting")
    if str(app.conf.beat_scheduler).startswith("celeriac"):
        raise SettingsError("the scheduler of this app fires its entries as definitions already: nothing to import")
    if overrides:
        app.celeriac_source.overrides = dict(overrides)
        app.__dict__.pop("celeriac_settings", None)
    settings: Settings = app.celeriac_settings
    return settings


def _read(app: Any, source: str | None) -> list[Entry | LeftOut]:
    """Return the entries of a source; by default those that the project's beat fires, from wherever they are."""
    scheduler = str(app.conf.beat_scheduler)
    if source is not None:
        chosen = ScheduleSource(source)
    elif "django_celery_beat" in scheduler:
        chosen = ScheduleSource.DJANGO
    elif "redbeat" in scheduler.lower():
        chosen = ScheduleSource.REDBEAT
    else:
        chosen = ScheduleSource.BEAT_SCHEDULE
    if chosen is ScheduleSource.BEAT_SCHEDULE:
        return read_beat_schedule(app)
    found = read_django() if chosen is ScheduleSource.DJANGO else read_redbeat(app)
    if source is None:
        # Both schedulers copy beat_schedule when they start. They may not have started since it was changed.
        names = {entry.name for entry in found}
        found += [entry for entry in read_beat_schedule(app) if entry.name not in names]
    return found


async def _store(
    app: Any,
    settings: Settings,
    calls: Iterable[tuple[Entry, Submission]],
    found: _Import,
    *,
    dry_run: bool,
    user_id: str,
) -> None:
    assert settings.redis_url is not None
    engine = create_engine(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout)
    try:
        definitions = DefinitionTable(engine)
        async with TaskStore(settings.redis_url, settings.store) as store:
            now_ms = await server_ms(store)
        for entry, submission in calls:
            try:
                new = definition_of(app, entry, submission, settings, now_ms=now_ms, user_id=user_id)
                decision = _begun(entry, new, settings, now_ms)
            except NotImportableError as exc:
                found.left_out.append(LeftOut(entry.name, str(exc)))
                continue
            before = await _known(definitions, new.definition_id)
            if before is None and not dry_run and not await definitions.insert(decision):
                before = await definitions.get(new.definition_id)
            if before is None:
                found.made.append((entry, decision.after))
            else:
                found.there.append((entry, before))
    finally:
        await engine.dispose()


def _begun(entry: Entry, new: Definition, settings: Settings, now_ms: int) -> Decision:
    change = DefinitionChange(now_ms, "create", _ACTOR, f"imported from {entry.source}", {})
    budget = limits_of(settings.schedule).budget()
    try:
        if new.trigger_type is TaskTriggerType.LOOP and new.timetable(budget.again()).after(now_ms) is None:
            raise NotImportableError("its schedule leaves no moment at which it would run")
        return transitions.begun(new, now_ms, paused=not entry.enabled, change=change, budget=budget)
    except TimetableCostError as exc:
        raise NotImportableError(f"its next moment is too hard to find: {exc}") from exc


async def _known(definitions: DefinitionTable, definition_id: str) -> Definition | None:
    try:
        return await definitions.get(definition_id)
    except DefinitionNotFoundError:
        return None


def _disable(app: Any, entries: list[Entry]) -> list[str]:
    """Switch entries off where a program can do that; returns their names."""
    fixed = set(app.conf.beat_schedule or {})
    by_source = {
        ScheduleSource.DJANGO: [entry.name for entry in entries if entry.source is ScheduleSource.DJANGO],
        # RedBeat writes those of beat_schedule anew at each start, switched on.
        ScheduleSource.REDBEAT: [
            entry.name for entry in entries if entry.source is ScheduleSource.REDBEAT and entry.name not in fixed
        ],
    }
    if names := by_source[ScheduleSource.DJANGO]:
        disable_django(names)
    if names := by_source[ScheduleSource.REDBEAT]:
        disable_redbeat(app, names)
    return [name for names in by_source.values() for name in names]


def _record(project: str, found: _Import, disabled: list[str], *, dry_run: bool) -> dict[str, Any]:
    def row(entry: Entry, definition: Definition, what: str) -> dict[str, Any]:
        return {
            "name": entry.name,
            "task_def_id": definition.definition_id,
            "what": what,
            "status": definition.status.value,
            "source": entry.source.value,
            "task": entry.task,
            "group": definition.group,
            "trigger_args": definition.spec.trigger_args,
        }

    twice = [entry for entry in found.firing_twice() if entry.name not in disabled]
    return {
        "project": project,
        "dry_run": dry_run,
        "definitions": [
            *(row(entry, made, "would be imported" if dry_run else "imported") for entry, made in found.made),
            *(row(entry, there, "exists already") for entry, there in found.there),
        ],
        "left_out": [{"name": entry.name, "reason": entry.reason} for entry in found.left_out],
        "disabled": disabled,
        "fires_twice": [{"name": entry.name, "switch_off": _BY_HAND[entry.source]} for entry in twice],
    }
