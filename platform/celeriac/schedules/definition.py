"""The data of schedules: a definition (the rule), its firings (what became of its slots) and its changes.

Moments are milliseconds since the epoch, by the store's clock.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from celeriac import json_text
from celeriac.model import ms_from_utc
from celeriac.moments import within_ms
from celeriac.schedules.times.backlog import Misfire, MisfirePolicy
from celeriac.schedules.times.budget import Budget, ComputeLimits
from celeriac.schedules.times.cron import CronExclusion, cron_of
from celeriac.schedules.times.rules import Interval, Once, RangeExclusion, Rule, day_exclusion
from celeriac.schedules.times.succession import Stretch, Succession
from celeriac.schedules.times.timetable import Exclusion, Timetable
from celeriac.schedules.times.wall_clock import zone

#: The namespace from which ids of instances derive (a random UUID).
_NAMESPACE: Final = uuid.UUID("5b0c2f5e-9c1d-4a53-8f0e-0b7c3d1e9a42")
#: The metadata field of a definition that follows the code: the function that has the schedule.
PLACE: Final = "code"


class TaskTriggerType(StrEnum):
    """When a definition fires."""

    IMMEDIATE = "IMMEDIATE"  #: once, now
    SCHEDULED = "SCHEDULED"  #: once, at a moment
    LOOP = "LOOP"  #: again and again, by interval or cron


class DefinitionStatus(StrEnum):
    """The status of a definition. An active one shows as RUNNING while an instance runs; that is not stored."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


class Overlap(StrEnum):
    """What happens to a slot while an earlier instance has not ended."""

    ALLOW = "allow"  #: it runs beside the earlier one
    SKIP = "skip"  #: it does not run
    QUEUE_ONE = "queue_one"  #: it runs afterwards, unless another one waits already
    QUEUE_ALL = "queue_all"  #: it runs afterwards, all one after the other
    CANCEL_PREVIOUS = "cancel_previous"  #: the earlier one is cancelled, then it runs


class FiringState(StrEnum):
    """The state of a firing."""

    PLANNED = "planned"  #: written, and perhaps not submitted yet
    BUFFERED = "buffered"  #: waits for an earlier instance to end
    OPEN = "open"  #: submitted; its end is not known yet
    ENDED = "ended"  #: its end is counted


@dataclass(frozen=True, slots=True)
class Spec:
    """What the author of a definition set, checked, and what is left of earlier timetables; stored as one JSON text."""

    #: As the author wrote it: a number or a text.
    user_id: int | str | None
    content: str
    trigger_args: dict[str, Any]
    #: The moment from which intervals are counted.
    anchor_ms: int
    #: The task to run as the author wrote it; None if the content goes to the workers of the group.
    task: dict[str, Any] | None
    #: The same with the defaults of settings and task types; see `schedules/firing.py`.
    run: dict[str, Any]
    misfire: Misfire = Misfire.FIRE_ONCE
    misfire_grace_ms: int = 60_000
    catchup_window_ms: int = 86_400_000
    overlap: Overlap = Overlap.ALLOW
    start_ms: int | None = None
    end_ms: int | None = None
    max_runs: int | None = None
    jitter_ms: int = 0
    #: It is paused after this many failures in a row.
    pause_on_failure: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    #: Timetables that ended while some of their slots were not decided yet, the oldest first; see `ended_timetable`.
    earlier: list[dict[str, Any]] = field(default_factory=list)
    #: After earlier ones, the timetable counts from here (not included); None: it does not count yet, in a pause.
    since_ms: int | None = None

    def dumped(self) -> str:
        """Return the stored text."""
        return json_text.write({name: getattr(self, name) for name in self.__slots__})

    @property
    def misfire_policy(self) -> MisfirePolicy:
        """What happens to slots that no beat fired in time."""
        return MisfirePolicy(Misfire(self.misfire), self.misfire_grace_ms, self.catchup_window_ms)


@lru_cache(maxsize=8192)
def spec_of(text: str) -> Spec:
    """Read a stored spec; fields of a later version are ignored."""
    known = {name: value for name, value in json_text.read(text).items() if name in Spec.__slots__}
    return Spec(**{**known, "overlap": Overlap(known["overlap"]), "misfire": Misfire(known["misfire"])})


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition as its row has it. Counters count from its creation."""

    definition_id: str
    rev: int
    status: DefinitionStatus
    trigger_type: TaskTriggerType
    #: `api`; `celery` for an entry of Celery's own `beat_schedule`, and `code` for a `schedule=` of a task type, which
    #: are read-only; or the schedule of a project from which it was imported: `beat_schedule`, `django-celery-beat` or
    #: `redbeat`.
    source: str
    name: str | None
    user_id: str | None
    group: str
    spec: Spec
    note: str | None
    #: The first slot that is not decided yet, and when it is due. None if there is none. A pause keeps a slot that had
    #: passed before it, and the moment of a SCHEDULED definition; no slot of a paused definition is due.
    next_slot_ms: int | None
    next_ms: int | None
    created_ms: int
    updated_ms: int
    ended_ms: int | None
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    buffered: int = 0
    triggered: int = 0
    backfilled: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    failures_in_row: int = 0
    last_slot_ms: int | None = None
    last_task_id: str | None = None
    #: The instance that ended last: its id, status, end and error message.
    outcome_task_id: str | None = None
    outcome_status: str | None = None
    outcome_ms: int | None = None
    outcome_error: str | None = None

    @property
    def read_only(self) -> bool:
        """Whether something else owns it: Celery's configuration, or the code."""
        return self.source in ("celery", "code")

    @property
    def owner(self) -> str:
        """Where a read-only definition can be changed, for people."""
        if self.source == "celery":
            return "it comes from Celery's beat_schedule: change it there"
        return f"it follows the code: change `schedule=` of {self.spec.metadata.get(PLACE, 'its task type')}"

    def timetable(self, budget: Budget | None = None) -> Timetable:
        """Return its timetable, for one question; see `timetable_of`."""
        return timetable_of(self.trigger_type, self.spec, self.definition_id, budget)

    def undecided(self, budget: Budget | None = None) -> Timetable | Succession:
        """Return its timetable, after what is left of the earlier ones: the slots from `next_slot_ms` on."""
        spec, latest = self.spec, self.timetable(budget)
        if not spec.earlier:
            return latest
        stretches = [self._stretch(latest.budget, **ended) for ended in spec.earlier]
        if spec.since_ms is not None:
            stretches.append(Stretch(latest, spec.since_ms, None))
        return Succession(tuple(stretches), latest)

    def _stretch(self, budget: Budget, *, trigger_type: str, after_ms: int, until_ms: int, **given: Any) -> Stretch:
        spec = replace(self.spec, **given)
        table = timetable_of(TaskTriggerType(trigger_type), spec, self.definition_id, budget)
        return Stretch(table, after_ms, until_ms)


@dataclass(frozen=True, slots=True)
class Firing:
    """A slot that will run or has run, with the id of its task."""

    task_id: str
    definition_id: str
    slot_ms: int
    trigger: str
    state: FiringState
    planned_ms: int
    cancel: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """An entry of a definition's audit trail."""

    at_ms: int
    action: str
    actor: str
    note: str | None
    #: What an edit changed: field → [before, after].
    changed: dict[str, Any]


def instance_id(definition_id: str, trigger: str, key: int | str) -> str:
    """Return the id of the task of a slot; all processes derive the same id at any time."""
    return str(uuid.uuid5(_NAMESPACE, f"{definition_id}:{trigger}:{key}"))


def content_of(content: str | None, user_id: int | str | None, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the executor of a definition's content gets; `facts` describe the instance."""
    return {"content": content or "", "user_id": user_id, **facts}


def timetable_of(trigger_type: TaskTriggerType, spec: Spec, seed: str, budget: Budget | None = None) -> Timetable:
    """Return the timetable of checked arguments; raises `ValueError` for others.

    It is for one question, which may use the `budget`; None means the default limits.
    """
    rules, exclusions = _rules(trigger_type, spec.anchor_ms, spec.start_ms, json_text.write_bytes(spec.trigger_args))
    budget = budget or ComputeLimits().budget()
    return Timetable(rules, exclusions, spec.start_ms, spec.end_ms, spec.jitter_ms, seed, budget)


@lru_cache(maxsize=8192)
def _rules(
    trigger_type: TaskTriggerType, anchor_ms: int, start_ms: int | None, encoded: bytes
) -> tuple[tuple[Rule, ...], tuple[Exclusion, ...]]:
    args = json_text.read(encoded)
    if trigger_type is TaskTriggerType.IMMEDIATE:
        return (), ()
    timezone = args.get("timezone") or "UTC"
    if trigger_type is TaskTriggerType.SCHEDULED:
        return (Once(moment_ms(args.get("run_at") or args["run_date"], args.get("timezone"))),), ()
    given = args.get("rules") or [args]
    # Each rule once, even if it is written several times.
    rules = dict.fromkeys(_rule(rule, timezone, anchor_ms, start_ms) for rule in given)
    exclusions = dict.fromkeys(_exclusion(entry, timezone) for entry in args.get("exclude") or ())
    return tuple(rules), tuple(exclusions)


def _rule(args: dict[str, Any], timezone: str, anchor_ms: int, start_ms: int | None) -> Rule:
    if (interval := args.get("interval")) is not None:
        every_us = round(float(interval) * 1_000_000)
        offset_ms = round(float(args.get("offset") or 0) * 1000)
        # With a start, the first slot is the start itself; without one, it is one interval after the creation.
        if start_ms is not None:
            return Interval(every_us, start_ms + offset_ms, 0)
        return Interval(every_us, anchor_ms + offset_ms, 0 if offset_ms else 1)
    return cron_of(args.get("cron") or args["cron_expression"], args.get("timezone") or timezone)


def _exclusion(entry: dict[str, Any], timezone: str) -> Exclusion:
    timezone = entry.get("timezone") or timezone
    if "cron" in entry:
        return CronExclusion(cron_of(entry["cron"], timezone))
    if "date" in entry:
        return day_exclusion(date.fromisoformat(entry["date"]), timezone)
    return RangeExclusion(moment_ms(entry["from"], timezone), moment_ms(entry["to"], timezone))


def moment_ms(text: str, timezone: str | None) -> int:
    """Return the moment of a stored trigger (ms since the epoch), or the nearest one of the years 1970 to 2999."""
    return within_ms(ms_from_utc(moment_of(text, timezone)))


def moment_of(text: str, timezone: str | None) -> datetime:
    """Read an ISO 8601 moment, a naive one in `timezone`; raises `ValueError` that says what is wrong."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ValueError("must be an ISO 8601 moment, e.g. 2030-01-31T08:00:00+01:00") from None
    if moment.tzinfo is None:
        if timezone is None:
            raise ValueError("has no time zone: write one (2030-01-31T08:00:00Z), or give `timezone`")
        moment = moment.replace(tzinfo=zone(timezone))
    return moment


@dataclass(frozen=True, slots=True)
class Open:
    """The instances of a definition that have not ended: planned and submitted ones, and those that wait for them."""

    running: int = 0
    buffered: int = 0
    #: How many of the buffered ones are back-fills.
    backfills: int = 0

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.running or self.buffered)


#: The end of a firing that made no instance, because another task holds its key of `once`.
SKIPPED: Final = "SKIPPED"


@dataclass(frozen=True, slots=True)
class InstanceEnd:
    """How an instance ended. `status` is a final status of the task, `MISSED` if it never became one, or `SKIPPED`."""

    status: str
    finished_ms: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a transition; it is written in the transaction that read the definition, or not at all."""

    after: Definition
    firings: tuple[Firing, ...] = ()
    #: Cancel all planned and open instances.
    cancel_open: bool = False
    #: Delete the instances that wait for an earlier one.
    drop_buffered: bool = False
    change: DefinitionChange | None = None
