"""Imports the entries of Celery's `beat_schedule` as read-only definitions, which fire like all others."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

from celery.schedules import crontab, schedule
from kombu.serialization import dumps

from celeriac import json_text
from celeriac.database.engine import create_engine
from celeriac.errors import CeleriacError, HistoryUnavailableError
from celeriac.moments import MAX_DELAY_S, duration_ms
from celeriac.schedules import transitions
from celeriac.schedules.definition import Decision, Definition, DefinitionChange, Open, Spec
from celeriac.schedules.read_only import OVER, owned_definition, owned_id, removed, updated
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.schedules.times.budget import TimetableCostError
from celeriac.settings import Settings
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms
from celeriac.tasks.submission import INSTANCE_ID, template_of
from celeriac_tasks.celeryconfig_file import celeryconfig_settings
from celeriac_tasks.engine.calls.published_call import PublishedCall
from celeriac_tasks.engine.calls.routes import FANOUT, queues_of

log = logging.getLogger(__name__)

_NAMESPACE: Final = uuid.UUID("2a1f7a36-4f0e-4b0e-8a53-9c0f0f4f7c11")
_ACTOR: Final = "celery"
#: The metadata field that says where an entry comes from: `celeryconfig.py` or code.
ORIGIN: Final = "origin"
CELERYCONFIG: Final = "celeryconfig"
CODE: Final = "code"
_REMOVED_NOTE: Final = "it is no longer in Celery's beat_schedule"
#: The pause while the database is unavailable, and after the import (seconds).
_AGAIN_S: Final = 2.0
_DONE_S: Final = 3600.0
#: The `options` of an entry that have an effect here.
_OPTIONS: Final = {"queue", "priority", "expires", "routing_key", "exchange"}


def definition_id_of(name: str) -> str:
    """Return the definition id of an entry, which is the same in every beat process."""
    return owned_id(_NAMESPACE, name)


def definitions_of(app: Any, entries: Mapping[str, Any], now_ms: int) -> list[Definition]:
    """Return the definitions for `beat_schedule` entries; an invalid entry is logged and left out."""
    found = []
    for name, entry in entries.items():
        try:
            found.append(_definition(app, name, dict(entry), now_ms))
        except (ValueError, TypeError, KeyError, CeleriacError) as exc:
            log.error("beat_schedule: the entry %r is invalid and will not fire: %s", name, exc)
    return found


async def import_entries(
    definitions: DefinitionTable, found: Iterable[Definition], now_ms: int, *, origins: Collection[str]
) -> None:
    """Store new definitions, update changed ones, and cancel those of `origins` whose entry no longer exists."""
    known = {definition.definition_id: definition for definition in await definitions.all_from("celery")}
    for definition in found:
        there = known.pop(definition.definition_id, None) is not None
        try:
            if there:
                await definitions.change(definition.definition_id, partial(_updated, new=definition, now_ms=now_ms))
            else:
                change = DefinitionChange(now_ms, "create", _ACTOR, None, {})
                await definitions.insert(transitions.begun(definition, now_ms, paused=False, change=change))
        except TimetableCostError as exc:
            log.error("beat_schedule: the entry %r will not fire: %s", definition.name, exc)
    for gone in known.values():
        if gone.spec.metadata.get(ORIGIN) in origins and gone.status not in OVER:
            await definitions.change(
                gone.definition_id, lambda d, _: removed(d, now_ms, actor=_ACTOR, note=_REMOVED_NOTE)
            )


class BeatScheduleImport(Role):
    """Imports the entries of `celeryconfig.py` once the database is available, in a process that is not Celery beat."""

    def __init__(self, *, app: Any, store: TaskStore) -> None:
        super().__init__()
        self._app = app
        self._store = store

    async def step(self) -> float:
        """Import the entries, or try again soon if the database is unavailable."""
        try:
            self._app.load_types()
            await import_beat_schedule(self._app, self._store, origins=[CELERYCONFIG])
        except HistoryUnavailableError as exc:
            log.debug("beat_schedule waits for the database: %s", exc)
            return _AGAIN_S
        return _DONE_S


async def import_beat_schedule(app: Any, store: TaskStore, *, origins: Collection[str]) -> None:
    """Store the entries of `origins` in the app's `beat_schedule` as definitions; see `import_entries`."""
    settings: Settings = app.celeriac_settings
    engine = create_engine(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout)
    try:
        now_ms = await server_ms(store)
        found = definitions_of(app, dict(app.conf.beat_schedule or {}), now_ms)
        chosen = [definition for definition in found if definition.spec.metadata[ORIGIN] in origins]
        await import_entries(DefinitionTable(engine), chosen, now_ms, origins=origins)
    finally:
        await engine.dispose()


def _updated(old: Definition, unended: Open, *, new: Definition, now_ms: int) -> Decision | None:
    return updated(old, new, unended, now_ms, actor=_ACTOR)


def _definition(app: Any, name: str, entry: dict[str, Any], now_ms: int) -> Definition:
    task, args, kwargs = entry["task"], list(entry.get("args") or ()), dict(entry.get("kwargs") or {})
    options = dict(entry.get("options") or {})
    if unknown := set(options) - _OPTIONS:
        log.warning("beat_schedule: %s of the entry %r is ignored", ", ".join(sorted(unknown)), name)
    run = _run(app, task, args, kwargs, options)
    spec = Spec(
        user_id=None,
        content="",
        trigger_args=_trigger_args(entry["schedule"], str(app.conf.timezone or "UTC")),
        anchor_ms=now_ms,
        task={"type": task, "payload": json_text.read(run["payload"])},
        run=run,
        metadata={ORIGIN: CELERYCONFIG if name in (celeryconfig_settings().get("beat_schedule") or {}) else CODE},
    )
    return owned_definition(definition_id_of(name), source="celery", name=name, spec=spec, now_ms=now_ms)


def _run(app: Any, task: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the template of every instance: the submission that publishing the call would make."""
    expires = options.pop("expires", None)
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    task_type = app.registered_type(task)
    if task_type is not None and not {"queue", "routing_key"} & set(options):
        group = task_type.group
    else:
        group = _group_of(app, app.amqp.router.route(dict(options), task, args, kwargs))
    message = app.amqp.as_task_v2(INSTANCE_ID, task, args, kwargs)
    content_type, encoding, written = dumps(message.body, app.conf.task_serializer)
    body = written if isinstance(written, bytes) else written.encode()
    properties = {**message.properties, "priority": options.get("priority", app.conf.task_default_priority)}
    call = PublishedCall(dict(message.headers), body, content_type, encoding, properties)
    expires_in_ms = duration_ms(expires, what="expires") if isinstance(expires, int | float) else None
    return {**template_of(app.submission_of(call, group=group)), "expires_in_ms": expires_in_ms}


def _group_of(app: Any, route: dict[str, Any]) -> str:
    """Return the queue to which the options of a call lead; raises `ValueError` if that is not one queue."""
    queue: Any = route.get("queue")
    if exchange := route.get("exchange"):
        name, routing_key = getattr(exchange, "name", exchange), route.get("routing_key") or ""
        found = queues_of(app.amqp.queues.values(), name, routing_key)
        if len(found) != 1:
            raise ValueError(f"the exchange {name!r} leads to {len(found)} queues, and it must be one: set `queue`")
        return found[0]
    if getattr(getattr(queue, "exchange", None), "type", None) == FANOUT:
        raise ValueError(
            f"the queue {queue.alias or queue.name!r} is a broadcast, which has no record: call it from a task"
        )
    return str(getattr(queue, "name", queue) or app.conf.task_default_queue)


def _trigger_args(given: Any, timezone: str) -> dict[str, Any]:
    if isinstance(given, crontab):
        return cron_args(given, timezone)
    if isinstance(given, schedule):
        given = given.run_every
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given <= MAX_DELAY_S:
        return {"interval": given}
    raise ValueError(f"{given!r} is neither an interval nor a crontab: an interval is above zero, at most ten years")


def cron_args(given: Any, timezone: str) -> dict[str, Any]:
    """Return cron arguments for a crontab, built from the numbers that Celery parsed."""
    minute, hour = _numbers(given.minute, 60, 0), _numbers(given.hour, 24, 0)
    day, month = _numbers(given.day_of_month, 31, 1), _numbers(given.month_of_year, 12, 1)
    weekday = _numbers(given.day_of_week, 7, 0)
    args: dict[str, Any] = {"cron": f"{minute} {hour} {day} {month} {weekday}", "timezone": timezone}
    if day != "*" and weekday != "*":
        # Celery requires both day fields to match, cron only one. So the rule uses the day of the month and excludes
        # the weekdays that the entry does not name.
        others = ",".join(str(n) for n in range(7) if n not in given.day_of_week)
        args = {
            "cron": f"{minute} {hour} {day} {month} *",
            "timezone": timezone,
            "exclude": [{"cron": f"* * * * {others}"}],
        }
    return args


def _numbers(chosen: Iterable[int], count: int, first: int) -> str:
    numbers = sorted(set(chosen))
    return "*" if numbers == list(range(first, first + count)) else ",".join(str(number) for number in numbers)
