"""The service of schedules: what users do with definitions, the same for HTTP, Python and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from celeriac.errors import (
    ChangedDefinitionError,
    DuplicateTaskError,
    InvalidSubmissionError,
    TaskNotFoundError,
    Violation,
)
from celeriac.history.history import History
from celeriac.model import Reason, Status, Task, ms_from_utc
from celeriac.schedules import transitions
from celeriac.schedules.definition import (
    Decision,
    Definition,
    DefinitionChange,
    DefinitionStatus,
    Firing,
    FiringState,
    Open,
    Spec,
    TaskTriggerType,
    instance_id,
    timetable_of,
)
from celeriac.schedules.editing import edited_document, is_checked_again, keeps_phase, request_document
from celeriac.schedules.firing import Fired, FiringSubmitter
from celeriac.schedules.instances import page_of_instances
from celeriac.schedules.record import shown_task
from celeriac.schedules.request import (
    EDITABLE,
    DefinitionRequest,
    build_spec,
    check_timetable,
    limits_of,
    read_definition,
    read_trigger,
)
from celeriac.schedules.scheduler import Clock, cancel_instance
from celeriac.schedules.settling import settle
from celeriac.schedules.sql.definitions import DefinitionTable, cursor_after
from celeriac.schedules.sql.firings import FiringTable
from celeriac.schedules.sql.last_runs import LastRun, last_runs
from celeriac.schedules.times.budget import Budget, TimetableCostError
from celeriac.schedules.times.succession import Succession
from celeriac.schedules.times.timetable import Timetable
from celeriac.schedules.times.trigger_args import checked_args
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms
from celeriac.tasks.catalog import TypeLookup
from celeriac.tasks.warnings import Warnings

#: Longest preview (slots).
MAX_PREVIEW: Final = 1000
#: Most open instances whose ends are counted when one definition is read.
_SETTLED: Final = 1000
#: The budget for finding one slot suffices for this many.
_SLOTS_PER_BUDGET: Final = 200
#: Most pages that are read to fill one page.
_MOST_PAGES: Final = 20

#: Returns the types among which a name is looked up.
Types = Callable[[str], Awaitable[TypeLookup]]


@dataclass(frozen=True, slots=True)
class CurrentDefinition:
    """A definition and its present status; it is RUNNING while an instance runs."""

    definition: Definition
    status: DefinitionStatus
    #: Why its tasks may wait for long: no worker takes them, as it is now. A list has no warnings.
    warnings: tuple[Reason, ...] = ()


class Schedules:
    """A process's access to definitions; belongs to one event loop.

    Raises `HistoryUnavailableError` and `StoreUnavailableError` wherever a store is away.
    """

    def __init__(
        self, *, store: TaskStore, history: History, types: Types, settings: Settings, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self._history = history
        self.definitions = DefinitionTable(history.engine, page_bytes=history.page_bytes)
        self.firings = FiringTable(self.definitions)
        self._submitter = FiringSubmitter(store=store, firings=self.firings, settings=settings)
        self._types = types
        self._warnings = Warnings(store)
        self._clock: Clock = clock or (lambda: server_ms(store))

    # --- making and looking

    async def create(
        self, document: object, *, actor: str, key: str | None = None, maker: str | None = None
    ) -> tuple[CurrentDefinition, bool]:
        """Store a definition; returns it, and whether it is new. `maker`: who makes its group (see `Submission.maker`).

        With `key`, a repeated call returns the definition of the first call. An instance that is due at once is
        submitted before this returns; if the store is away, a beat submits it later.
        Raises `InvalidSubmissionError` that names the fields.
        """
        request = read_definition(document)
        now_ms = await self._clock()
        types = await self._lookup(request.task)
        spec = await asyncio.to_thread(build_spec, request, self.settings, types, now_ms=now_ms, maker=maker)
        name = f"{len(str(request.user_id))}:{request.user_id}:{key}"
        definition_id = str(uuid.uuid4()) if key is None else instance_id("definition", "key", name)
        definition = Definition(
            definition_id=definition_id,
            rev=1,
            status=DefinitionStatus.ACTIVE,
            trigger_type=request.trigger_type,
            source="api",
            name=request.name,
            user_id=str(request.user_id),
            group=spec.run["group"],
            spec=spec,
            note=request.note,
            next_slot_ms=None,
            next_ms=None,
            created_ms=now_ms,
            updated_ms=now_ms,
            ended_ms=None,
        )
        change = DefinitionChange(now_ms, "create", actor, request.note, {})
        decision = await asyncio.to_thread(
            transitions.begun, definition, now_ms, paused=request.paused, change=change, budget=self._budget()
        )
        if not await self.definitions.insert(decision):
            return await self.get(definition_id), False
        await self._submit(decision, now_ms)
        return await self.get(definition_id), True

    async def get(self, definition_id: str) -> CurrentDefinition:
        """Return a definition with its present status; raises `DefinitionNotFoundError`."""
        definition = await self.definitions.get(definition_id)
        ids = [f.task_id for f in await self.definitions.open_firings([definition_id]) if f.state is FiringState.OPEN]
        if not ids:
            return CurrentDefinition(definition, definition.status, await self._warned(definition))
        going_on = await settle(self.store, self.firings, ids[:_SETTLED], await self._clock())
        if len(going_on) < len(ids):
            definition = await self.definitions.get(definition_id)
        return CurrentDefinition(definition, _status_now(definition, going_on), await self._warned(definition))

    async def _warned(self, definition: Definition) -> tuple[Reason, ...]:
        run = definition.spec.run
        if definition.status not in (DefinitionStatus.ACTIVE, DefinitionStatus.PAUSED) or run.get("awaits"):
            return ()
        return await self._warnings.of(definition.group, str(run["type"]), str(run["delivery"]))

    async def find(
        self, *, statuses: Sequence[DefinitionStatus] = (), limit: int, cursor: str | None = None, **chosen: Any
    ) -> tuple[list[CurrentDefinition], str | None]:
        """Return a page of definitions with their present status, the newest first, and the next page's cursor.

        RUNNING is not stored, so each page of active definitions is checked. A page is filled up from the following
        ones; if matches are rare, it may be shorter than `limit`. The cursor None means: this is the last page.
        `chosen` are further filters of `DefinitionTable.find`. Raises `BadCursorError`.
        """
        running, active = DefinitionStatus.RUNNING in statuses, DefinitionStatus.ACTIVE in statuses
        stored = {DefinitionStatus.ACTIVE if status is DefinitionStatus.RUNNING else status for status in statuses}
        found: list[CurrentDefinition] = []
        for _ in range(_MOST_PAGES):
            page = await self.definitions.find(
                statuses=tuple(stored), unended=running and not active, limit=limit, cursor=cursor, **chosen
            )
            for seen in await self.current(page.definitions):
                if not statuses or seen.status in statuses:
                    if len(found) == limit:
                        return found, cursor_after(found[-1].definition)
                    found.append(seen)
            cursor = page.next_cursor
            # A full page is the last one only if no match follows.
            if cursor is None or page.cut or (len(found) == limit and running == active):
                break
        return found, cursor

    async def current(self, definitions: Sequence[Definition]) -> list[CurrentDefinition]:
        """Return many definitions with their present status."""
        firings = await self.definitions.open_firings([d.definition_id for d in definitions])
        opened = [f for f in firings if f.state is FiringState.OPEN]
        going_on = await settle(self.store, self.firings, [f.task_id for f in opened], await self._clock())
        of: dict[str, dict[str, Status]] = {}
        for firing in opened:
            if firing.task_id in going_on:
                of.setdefault(firing.definition_id, {})[firing.task_id] = going_on[firing.task_id]
        return [CurrentDefinition(d, _status_now(d, of.get(d.definition_id, {}))) for d in definitions]

    async def instances(self, definition_id: str, *, limit: int, cursor: str | None = None) -> tuple[list[Task], Any]:
        """Return a page of a definition's instances, the newest first, and the next page's cursor.

        It includes instances that history does not have yet. Raises `BadCursorError`, `DefinitionNotFoundError`.
        """
        await self.definitions.get(definition_id)
        return await page_of_instances(
            self.store, self._history, self.definitions, definition_id, limit=limit, cursor=cursor
        )

    # --- moves

    async def pause(self, definition_id: str, *, actor: str, note: str | None = None) -> CurrentDefinition:
        """Stop firing; raises `IllegalDefinitionMoveError`."""
        now_ms = await self._settled_now(definition_id)
        return await self._changed(
            definition_id,
            lambda d, _: transitions.paused(d, now_ms, actor=actor, note=note, budget=self._budget()),
            now_ms,
        )

    async def resume(self, definition_id: str, *, actor: str, note: str | None = None) -> CurrentDefinition:
        """Fire again; raises `IllegalDefinitionMoveError`."""
        now_ms = await self._settled_now(definition_id)
        return await self._changed(
            definition_id,
            lambda d, unended: transitions.resumed(d, unended, now_ms, actor=actor, note=note, budget=self._budget()),
            now_ms,
        )

    async def cancel(self, definition_id: str, *, actor: str, note: str | None = None) -> CurrentDefinition:
        """End a definition for good, and cancel its instances; raises `IllegalDefinitionMoveError`."""
        now_ms = await self._settled_now(definition_id)
        seen = await self._changed(
            definition_id,
            lambda d, _: transitions.cancelled(d, now_ms, actor=actor, note=note, budget=self._budget()),
            now_ms,
        )
        # At once if possible; a beat cancels the rest, even if this process dies now.
        for firing in await self.definitions.open_firings([definition_id]):
            if firing.state is FiringState.OPEN:
                await cancel_instance(self.store, firing.task_id)
        return seen

    async def trigger(self, definition_id: str, *, actor: str, key: str | None = None) -> Firing:
        """Run one instance now; raises `IllegalDefinitionMoveError`. With `key`, repeated calls run only one."""
        now_ms = await self._settled_now(definition_id)
        made: list[Decision] = []

        def decide(definition: Definition, _: Open) -> Decision:
            made.append(transitions.triggered(definition, now_ms, actor=actor, key=key or uuid.uuid4().hex))
            return made[-1]

        if key is not None:
            task_id = instance_id(definition_id, "manual", key)
            if await self._made_before([task_id]):
                slot_ms = await self._slot_ms(task_id, now_ms)
                return Firing(task_id, definition_id, slot_ms, "manual", FiringState.OPEN, slot_ms)
        await self.definitions.change(definition_id, decide)
        fired = await self._submit(made[-1], now_ms)
        [firing] = _answered(made[-1].firings[:1], fired)
        return firing

    async def backfill(
        self,
        definition_id: str,
        start: datetime,
        end: datetime,
        *,
        actor: str,
        one_by_one: bool = False,
        key: str | None = None,
    ) -> list[Firing]:
        """Run the slots from `start` to `end` (both included) that lie in the past; returns the firings.

        With `key`, a repeated call does not run a slot again. Raises `IllegalDefinitionMoveError`, and
        `InvalidSubmissionError` for a range without slots or with too many.
        """
        now_ms = await self._settled_now(definition_id)
        most = self.settings.schedule.max_backfill
        made: list[Decision] = []
        name = key or uuid.uuid4().hex

        if start > end:
            raise InvalidSubmissionError([Violation("end", "must not be before start")])
        table = (await self.definitions.get(definition_id)).timetable(self._budget(most)).without_start()
        first_ms, last_ms = ms_from_utc(start), min(ms_from_utc(end), now_ms)
        slots = await asyncio.to_thread(lambda: list(islice(table.slots(first_ms - 1, last_ms), most + 1)))
        if not slots:
            raise InvalidSubmissionError([Violation("end", "there is no past slot from start to end")])
        if len(slots) > most:
            raise InvalidSubmissionError([Violation("end", f"the range has more than {most} slots: split it")])
        if key is not None:
            ids = [instance_id(definition_id, f"backfill:{key}", slot) for slot in slots]
            before = await self._made_before(ids)
            slots = [slot for slot, task_id in zip(slots, ids, strict=True) if task_id not in before]

        def decide(definition: Definition, unended: Open) -> Decision:
            made.append(
                transitions.backfilled(definition, unended, slots, now_ms, actor=actor, key=name, one_by_one=one_by_one)
            )
            return made[-1]

        await self.definitions.change(definition_id, decide)
        fired = await self._submit(made[-1], now_ms)
        return _answered(made[-1].firings, fired)

    async def edit(
        self, definition_id: str, document: object, *, actor: str, rev: int | None = None, maker: str | None = None
    ) -> CurrentDefinition:
        """Change the fields in `document` and keep the others, as `edited_document` describes.

        With `rev`, a definition that has changed since then stays as it is: `ChangedDefinitionError`. `maker`: who
        makes the group from now on (see `Submission.maker`).
        Raises `IllegalDefinitionMoveError`, and `InvalidSubmissionError` that names the fields.
        """
        if not isinstance(document, dict):
            raise InvalidSubmissionError([Violation("", "must be a JSON object")])
        if unknown := [name for name in document if name not in EDITABLE]:
            message = f"cannot be edited; these fields can: {', '.join(sorted(EDITABLE))}"
            raise InvalidSubmissionError([Violation(str(unknown[0])[:100], message)])
        known = await self.definitions.get(definition_id)
        transitions.refuse_read_only(known, "edit")
        now_ms = await self._settled_now(definition_id)
        before = request_document(known)
        request = read_definition(edited_document(known, document))
        checked = is_checked_again(known, request, document)
        new = await self._edited(known, request, now_ms, checked=checked, maker=maker)
        after = request_document(new)
        names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        shown = {**before, "task": shown_task(known.spec)}, {**after, "task": shown_task(new.spec)}
        changed = {name: [one.get(name) for one in shown] for name in names}

        def decide(definition: Definition, unended: Open) -> Decision:
            if definition.rev != (known.rev if rev is None else rev):
                raise ChangedDefinitionError(definition_id)
            return transitions.edited(
                definition,
                _with_life(new, definition),
                unended,
                now_ms,
                actor=actor,
                changed=changed,
                budget=self._budget(),
            )

        return await self._changed(definition_id, decide, now_ms)

    async def _edited(
        self, known: Definition, request: DefinitionRequest, now_ms: int, *, checked: bool, maker: str | None
    ) -> Definition:
        spec = await asyncio.to_thread(
            build_spec,
            request,
            self.settings,
            await self._lookup(request.task),
            now_ms=now_ms,
            anchor_ms=known.spec.anchor_ms if keeps_phase(known, request) else now_ms,
            future=checked,
            maker=maker,
            before=known.spec.run,
        )
        return replace(
            known,
            trigger_type=request.trigger_type,
            name=request.name,
            group=spec.run["group"],
            spec=spec,
            note=request.note,
        )

    # --- previews

    async def preview(self, definition_id: str, count: int) -> tuple[Timetable, list[int]]:
        """Return the next `count` slots; for a paused definition, those that it would have.

        They are fewer if the rest is too hard to find.
        """
        return await self._preview(await self.definitions.get(definition_id), count)

    async def previews(self, definitions: Sequence[Definition], count: int) -> list[tuple[Timetable, list[int]]]:
        """Return the next `count` slots of many definitions; a paused one has none."""
        none = DefinitionStatus.PAUSED
        return [await self._preview(one, 0 if one.status is none else count) for one in definitions]

    async def last_runs(self, definitions: Sequence[Definition], count: int) -> dict[str, list[LastRun]]:
        """Return the last `count` instances of many definitions that the history has, the newest first."""
        return await last_runs(self._history.engine, [one.definition_id for one in definitions], count)

    async def _preview(self, definition: Definition, count: int) -> tuple[Timetable, list[int]]:
        budget = self._budget(min(count, MAX_PREVIEW))
        table = definition.timetable(budget)
        if count == 0:
            return table, []
        if definition.status is DefinitionStatus.PAUSED and definition.trigger_type is not TaskTriggerType.IMMEDIATE:
            definition = await asyncio.to_thread(_as_resumed, definition, await self._clock(), budget.again())
        if definition.next_slot_ms is None:
            return table, []
        if definition.spec.max_runs is not None:
            count = min(count, max(definition.spec.max_runs - definition.fired, 0))
        undecided, before_ms = definition.undecided(budget), definition.next_slot_ms - 1
        return table, await asyncio.to_thread(_found, undecided, before_ms, min(count, MAX_PREVIEW))

    async def preview_of(self, document: object, count: int) -> tuple[Timetable, list[int]]:
        """Return the next `count` slots of a trigger that is not saved."""
        trigger = read_trigger(document)
        now_ms = await self._clock()
        own, count = self.settings.schedule, min(count, MAX_PREVIEW)
        args = checked_args(trigger.trigger_type, trigger.trigger_args, own=own, now_ms=now_ms)
        request = DefinitionRequest(**{**trigger.model_dump(), "trigger_args": args, "content": ""})
        spec = bare_spec(request, args, now_ms)
        await asyncio.to_thread(check_timetable, trigger, spec, now_ms, limits_of(own))
        table = timetable_of(trigger.trigger_type, spec, "", self._budget(count))
        return table, await asyncio.to_thread(lambda: list(islice(table.slots(now_ms), count)))

    # --- parts

    def _budget(self, slots: int = 1) -> Budget:
        """Return what it may cost to find this many slots."""
        return limits_of(self.settings.schedule).budget(1 + slots // _SLOTS_PER_BUDGET)

    async def _lookup(self, task: Mapping[str, Any] | None) -> TypeLookup:
        name = self.settings.schedule.content_type if task is None else task.get("type")
        return await self._types(name if isinstance(name, str) else "")

    async def _made_before(self, task_ids: Sequence[str]) -> set[str]:
        """Return those instances that a request with the same key has made, however long ago."""
        known = await self.store.known(task_ids)
        found = {task_id for task_id, there in zip(task_ids, known, strict=True) if there}
        found |= await self.firings.known(task_ids)
        return found | set(await self.firings.recorded_ends(task_ids))

    async def _slot_ms(self, task_id: str, otherwise_ms: int) -> int:
        """Return the slot of an instance from its record, or `otherwise_ms` if the store no longer has the record."""
        try:
            slot = (await self.store.get(task_id)).scheduled_at
        except TaskNotFoundError:
            return otherwise_ms
        return otherwise_ms if slot is None else ms_from_utc(slot)

    async def _settled_now(self, definition_id: str) -> int:
        """Count the ends of a definition's instances, so that it is up to date; returns the present time (ms)."""
        now_ms = await self._clock()
        firings = await self.definitions.open_firings([definition_id])
        ids = [f.task_id for f in firings if f.state is FiringState.OPEN]
        await settle(self.store, self.firings, ids[:_SETTLED], now_ms)
        return now_ms

    async def _changed(
        self, definition_id: str, decide: Callable[[Definition, Open], Decision | None], now_ms: int
    ) -> CurrentDefinition:
        made: list[Decision] = []

        def remember(definition: Definition, unended: Open) -> Decision | None:
            decision = decide(definition, unended)
            if decision is not None:
                made.append(decision)
            return decision

        await self.definitions.change(definition_id, remember)
        if made:
            await self._submit(made[-1], now_ms)
        return await self.get(definition_id)

    async def _submit(self, decision: Decision, now_ms: int) -> Fired:
        planned = [(decision.after, f) for f in decision.firings if f.state is FiringState.PLANNED]
        return await self._submitter.submit(planned, now_ms) if planned else Fired(0, {})


def _answered(firings: Sequence[Firing], fired: Fired) -> list[Firing]:
    """Return firings, those that made no instance with the id of the task that holds their key of `once`.

    Raises `DuplicateTaskError` for a single one that was refused.
    """
    answered = []
    for firing in firings:
        other = fired.duplicates.get(firing.task_id)
        if isinstance(other, DuplicateTaskError) and len(firings) == 1:
            raise other
        answered.append(firing if other is None else replace(firing, task_id=other.task_id))
    return answered


def _as_resumed(definition: Definition, now_ms: int, budget: Budget) -> Definition:
    """Return a paused definition as it would be if its pause ended now."""
    with contextlib.suppress(TimetableCostError):
        resumed = transitions.resumed(definition, Open(), now_ms, actor="", note=None, budget=budget)
        return definition if resumed is None else resumed.after
    return definition


def _found(table: Timetable | Succession, after_ms: int, count: int) -> list[int]:
    """Return up to `count` slots, as many of them as the table's budget suffices for."""
    slots: list[int] = []
    with contextlib.suppress(TimetableCostError):
        for slot in islice(table.slots(after_ms), count):
            slots.append(slot)
    return slots


def _status_now(definition: Definition, going_on: Mapping[str, Status]) -> DefinitionStatus:
    running = any(status is Status.PROCESSING for status in going_on.values())
    if running and definition.status is DefinitionStatus.ACTIVE:
        return DefinitionStatus.RUNNING
    return definition.status


def _with_life(new: Definition, now: Definition) -> Definition:
    """Return the edited definition with everything that happened to the definition meanwhile."""
    return replace(
        now,
        trigger_type=new.trigger_type,
        name=new.name,
        group=new.group,
        spec=new.spec,
        note=new.note,
    )


def bare_spec(request: DefinitionRequest, args: dict[str, Any], now_ms: int) -> Spec:
    """Return the spec of a trigger alone."""
    return Spec(
        user_id=None,
        content="",
        trigger_args=args,
        anchor_ms=now_ms,
        task=None,
        run={},
        start_ms=None if request.start_at is None else ms_from_utc(request.start_at),
        end_ms=None if request.end_at is None else ms_from_utc(request.end_at),
        jitter_ms=round(request.jitter * 1000),
    )
