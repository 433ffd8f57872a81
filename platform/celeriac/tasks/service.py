"""The service of tasks: the one door through which every front door submits, finds and changes them.

HTTP routes, gRPC, the dispatch API, `.delay()`, definitions, bulk operations and the command line translate into
calls of `Tasks` (or of the pure functions in `submission.py`) and have no rules of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from celeriac import json_text
from celeriac.access.principal import LOCAL, Principal
from celeriac.calling.options import NewTask, submission_document, to_json
from celeriac.errors import (
    CeleriacError,
    HistoryMissingError,
    IllegalTransitionError,
    InvalidSubmissionError,
    NotReplicatedError,
    StoreUnavailableError,
    TaskNotFoundError,
    UnknownParentError,
    Violation,
)
from celeriac.handlers.durable import NewChild
from celeriac.model import (
    Claim,
    Dependency,
    Event,
    KeptTask,
    LogLine,
    NodeOrders,
    OnConflict,
    Parents,
    Status,
    Submission,
    Submitted,
    Task,
    When,
)
from celeriac.secret_fields import restored
from celeriac.signals.records import TaskStep
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.confining import confined, confined_payload
from celeriac.tasks.plain_submissions import PlainSubmission, PlainSubmissions
from celeriac.tasks.reasons import Why
from celeriac.tasks.request import MAX_DEPENDENCIES, SubmitRequest, read_batch_item, read_request
from celeriac.tasks.signals import Signals
from celeriac.tasks.submission import NewPayload, build_submission, checked_payload, known_type, named
from celeriac.tasks.timeline import START, TaskHistory, Timeline
from celeriac.tasks.titles import Titles
from celeriac.tasks.types import waiting  # noqa: F401 - its types, which every process has
from celeriac.tasks.types.bulk import BULK, BulkPayload
from celeriac.tasks.warnings import Warnings
from celeriac.tasks.why import why_of

if TYPE_CHECKING:
    from celeriac.settings import Settings
    from celeriac.store.task_store import TaskStore
    from celeriac.store.watching.ends import EndWait
    from celeriac.tasks.task_type import TaskType

log = logging.getLogger(__name__)

# Now, and not with the first request of a server.
SubmitRequest.model_rebuild()

#: The shortest beginning of an id by which tasks are found (characters).
SHORTEST_PREFIX: Final = 6
#: Documents of a batch that are checked before others get their turn on the event loop (about 2 ms).
_TURN: Final = 50
#: How many refused tasks of a batch are answered with all that is wrong; the others with the first thing.
_TOLD_AT_LENGTH: Final = 20


class Intake(Protocol):
    """What submitting tasks of some types takes beyond storing a record, such as handing a file over."""

    async def check(self, payload: Any, caller: Principal) -> None:
        """Raise `InvalidSubmissionError` unless `caller` may hand in what this validated payload names."""

    async def submit(self, submission: Submission, payload: Any, caller: Principal) -> Submitted:
        """Take in what the validated payload names, and store the submission; raises as `Tasks.submit` does."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A submission whose form was checked, with its type, and its payload as the caller gave it."""

    task_type: TaskType
    submission: Submission
    payload: Mapping[str, Any]


class Tasks:
    """A process's access to tasks; belongs to one event loop.

    `history` is None where there is no database. `intakes` are found by the names in the hooks of task types.
    Every method raises `StoreUnavailableError` while the store is away.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        types: TypeCatalog,
        settings: Settings,
        history: TaskHistory | None = None,
        intakes: Mapping[str, Intake] | None = None,
        warns: bool = False,
    ) -> None:
        """`warns`: an answer to a submission says so if no worker takes the task."""
        self.store = store
        self.types = types
        self.history = history
        self.timeline = Timeline(store, history)
        self.signals = Signals(store, self.timeline)
        self.titles = Titles(types)
        self._intakes = dict(intakes or {})
        self._settings = settings
        self.warnings = Warnings(store) if warns else None
        self._plain = PlainSubmissions(store, settings, self.warnings)

    # --- submitting

    async def submit(
        self,
        request: SubmitRequest,
        *,
        caller: Principal = LOCAL,
        idempotency_key: str | None = None,
        wait: EndWait | None = None,
    ) -> Submitted:
        """Store a task to run; it is durable when this returns. `wait`: the caller begins to wait for its end.

        A repeated `idempotency_key` (per user) answers with the first task. Raises `InvalidSubmissionError`,
        `PayloadTooLargeError`, `QueueFullError`, and what the intake of the task's type raises.
        """
        types = self.types.local_with(request.type) or await self.types.containing(request.type)
        if caller is not LOCAL:
            request = confined(request, caller, types)
        submission = build_submission(
            request,
            self._settings,
            types,
            idempotency_key=idempotency_key,
            maker=caller.group_maker,
            parents_of=caller.confined_to,
        )
        if wait is not None:
            # Before it is stored, so that no end is missed.
            wait.expect(submission.task_id)
            submission = replace(submission, reply_to=wait.channel)
        return await self._stored(_Checked(known_type(request.type, types), submission, request.payload), caller)

    async def submit_as(self, task_id: str, document: object) -> Submitted:
        """Store a task of the local caller under an id that was chosen before, once; raises as `submit` does.

        The store remembers the id for an hour after the task's end at least.
        """
        request = read_request(document)
        types = self.types.local_with(request.type) or await self.types.containing(request.type)
        submission = named(task_id, build_submission(request, self._settings, types), self._settings)
        return await self._stored(_Checked(known_type(request.type, types), submission, request.payload), LOCAL)

    def submit_soon(
        self, document: object, heard: Callable[[Submitted | Exception], None], *, idempotency_key: str | None = None
    ) -> bool:
        """Begin to submit a JSON document of the local caller, if it is a plain one (see `PlainSubmissions`).

        Returns whether it is one; `submit` takes every other. `heard` gets the outcome once the task is durable, and
        must not raise.
        """
        plain = self._plain.build(document, self.types.local, idempotency_key)
        if plain is None:
            return False
        self._plain.begin(plain, heard)
        return True

    async def spawn(self, parent: Claim, child: NewChild) -> Submitted:
        """Submit a task as a part of the work of a running one, in whose workflow it is; once for each id.

        It is of the same user, and has the same key, unless its options or its type say otherwise. Raises as `submit`
        does.
        """
        options = {name: value for name, value in child.options.items() if value is not None}
        document = {"user_id": parent.user_id, **options, "type": child.type, "payload": child.payload}
        request = read_request(json_text.read(to_json(submission_document(cast(NewTask, document)))))
        types = self.types.local_with(request.type) or await self.types.containing(request.type)
        task_type = known_type(request.type, types)
        if task_type.hooks.intake and task_type.hooks.intake not in self._intakes:
            message = f"tasks of the type {request.type!r} are submitted by the API only"
            raise InvalidSubmissionError([Violation("type", message)])
        submission = replace(
            build_submission(request, self._settings, types, part=True, inherited_key=parent.key),
            task_id=child.task_id,
            node=child.node,
            as_node=NodeOrders(spawned_by=parent.task_id, numbered=True),
        )
        return await self._stored(_Checked(task_type, submission, request.payload), LOCAL)

    async def submit_many(
        self, documents: Sequence[object], *, caller: Principal = LOCAL, idempotency_key: str | None = None
    ) -> list[Submitted | CeleriacError]:
        """Submit each document (see `BatchItem`); returns the outcome of each, in order.

        A refused task does not disturb the others. A task without a key of its own gets `idempotency_key` and its
        place (`K:0`, `K:1`, …). Raises `StoreUnavailableError` only if the store took none; what too few replicas
        have is an outcome, `NotReplicatedError` with the task's id.
        """
        prepared: list[PlainSubmission | Awaitable[Submitted] | CeleriacError] = []
        refused = 0
        for place, document in enumerate(documents):
            if place % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            key = None if idempotency_key is None else f"{idempotency_key}:{place}"
            plain = self._plain.build(document, self.types.local, key) if caller is LOCAL else None
            one = await self._prepared(document, caller, key) if plain is None else plain
            if isinstance(one, InvalidSubmissionError):
                refused += 1
                one = one.brief() if refused > _TOLD_AT_LENGTH else one
            prepared.append(one)
        replies = iter(await self._replies([one for one in prepared if not isinstance(one, CeleriacError)]))
        outcomes: list[Submitted | CeleriacError] = []
        for one in prepared:
            outcome = one if isinstance(one, CeleriacError) else next(replies)
            if not isinstance(outcome, Submitted | CeleriacError):
                raise outcome
            outcomes.append(outcome)
        away = next((outcome for outcome in outcomes if isinstance(outcome, StoreUnavailableError)), None)
        if away is not None and not any(isinstance(outcome, Submitted | NotReplicatedError) for outcome in outcomes):
            raise away
        return outcomes

    async def _replies(
        self, calls: Sequence[PlainSubmission | Awaitable[Submitted]]
    ) -> Sequence[Submitted | BaseException]:
        """Return the replies to calls that all begin in one tick, so they share a round trip, and in this order."""
        plain = [one for one in calls if isinstance(one, PlainSubmission)]
        if len(plain) == len(calls):
            return await self._plain.each(plain)
        coroutines = (self._plain.one(one) if isinstance(one, PlainSubmission) else one for one in calls)
        return await asyncio.gather(*coroutines, return_exceptions=True)

    async def submit_with_then(
        self,
        documents: Sequence[object],
        then: object,
        *,
        caller: Principal = LOCAL,
        idempotency_key: str | None = None,
    ) -> tuple[list[Submitted | CeleriacError], Submitted | CeleriacError | None]:
        """Submit documents as `submit_many` does, and `then` to start when all accepted ones have ended, however.

        Returns their outcomes, and that of `then`: None if no document was accepted, since `then` is not submitted
        then. Its own key is `K:then`. Raises `InvalidSubmissionError` or `PayloadTooLargeError` for a `then` that
        cannot be submitted, and nothing is submitted.
        """
        if len(documents) > MAX_DEPENDENCIES:
            message = f"holds {len(documents)} tasks, above the limit of {MAX_DEPENDENCIES} of a batch with `then`"
            raise InvalidSubmissionError([Violation("tasks", message)])
        key = None if idempotency_key is None else f"{idempotency_key}:then"
        try:
            last = await self._checked(then, caller, key)
        except InvalidSubmissionError as exc:
            raise exc.below("then") from exc
        if last.submission.depends_on:
            message = "is the tasks of the batch: leave it out"
            raise InvalidSubmissionError([Violation("then.depends_on", message)])
        once = last.submission.once
        for field, changes in (
            ("debounce", last.submission.debounce is not None),
            ("once.on_conflict", once is not None and once.on_conflict is OnConflict.LATEST),
        ):
            if changes:
                message = "is not for `then`, which depends on the tasks of the batch: its payload is not replaced"
                raise InvalidSubmissionError([Violation(f"then.{field}", message)])
        outcomes = await self.submit_many(documents, caller=caller, idempotency_key=idempotency_key)
        ids = dict.fromkeys(one.task_id for one in outcomes if isinstance(one, Submitted))
        if not ids:
            return outcomes, None
        try:
            return outcomes, await self._submitted_after(last, list(ids), caller)
        except CeleriacError as exc:
            return outcomes, exc

    async def _submitted_after(self, last: _Checked, parents: Sequence[str], caller: Principal) -> Submitted:
        depends_on = [Dependency(task_id, When.ENDED) for task_id in parents]
        try:
            return await self._stored(replace(last, submission=replace(last.submission, depends_on=depends_on)), caller)
        except UnknownParentError:
            # Some have ended and left the store already: nothing is to be waited for.
            known = await self.store.known(parents)
            rest = [one for one, is_known in zip(depends_on, known, strict=True) if is_known]
            return await self._stored(replace(last, submission=replace(last.submission, depends_on=rest)), caller)

    async def _prepared(
        self, document: object, caller: Principal, key: str | None
    ) -> Awaitable[Submitted] | CeleriacError:
        """Return the call that submits a document, or why it is refused."""
        try:
            checked = await self._checked(document, caller, key)
        except CeleriacError as exc:
            return exc
        except Exception as exc:
            # A task type's own validator may raise anything; the other tasks have nothing to do with it.
            log.exception("a submission failed unexpectedly")
            error = CeleriacError(str(exc))
            error.__cause__ = exc
            return error
        return self._stored(checked, caller)

    async def _checked(self, document: object, caller: Principal, key: str | None) -> _Checked:
        item = read_batch_item(document)
        types = await self.types.containing(item.type)
        item = confined(item, caller, types)
        submission = build_submission(
            item,
            self._settings,
            types,
            idempotency_key=item.idempotency_key or key,
            maker=caller.group_maker,
            parents_of=caller.confined_to,
        )
        return _Checked(known_type(item.type, types), submission, item.payload)

    async def _stored(self, checked: _Checked, caller: Principal) -> Submitted:
        if self.warnings is None or checked.submission.awaits is not None:
            return await self._stored_silently(checked, caller)
        # In the same moment, so that the caller hardly waits for it.
        self.warnings.prepare()
        submitted = await self._stored_silently(checked, caller)
        place = checked.submission.group, checked.submission.type, checked.submission.delivery
        # A repeated submission may be answered with a task that has ended.
        if submitted.status.final:
            return submitted
        found = self.warnings.known(*place)
        if found is None:
            found = await self.warnings.of(*place)
        return replace(submitted, warnings=found) if found else submitted

    async def _stored_silently(self, checked: _Checked, caller: Principal) -> Submitted:
        task_type, submission, payload = checked.task_type, checked.submission, checked.payload

        async def store() -> Submitted:
            if not task_type.hooks.intake:
                return await self.store.submit(submission)
            return await self._intakes[task_type.hooks.intake].submit(submission, task_type.validate(payload), caller)

        try:
            return await store()
        except UnknownParentError:
            if not await self.bring_back(submission.depends_on, submission.parents_of):
                raise
            return await store()

    async def bring_back(self, parents: Sequence[Dependency], user_id: str | None) -> bool:
        """Put parents back into the store that only the history has, those of one user if `user_id` is given.

        Returns whether there was one. Raises `HistoryUnavailableError` while only the history could know.
        """
        if not parents:
            return False
        ids = [one.task_id for one in parents]
        known = await self.store.known(ids)
        found = False
        for task_id in (task_id for task_id, is_known in zip(ids, known, strict=True) if not is_known):
            try:
                kept = await self.kept(task_id)
            except TaskNotFoundError:
                continue
            if user_id is None or kept.task.user_id == user_id:
                found = await self.store.bring_back(task_id, kept.record) or found
        return found

    async def check_template(self, name: str, payload: Mapping[str, Any], *, caller: Principal) -> Mapping[str, Any]:
        """Return the payload that a definition of `caller` may give tasks of type `name`.

        Raises `InvalidSubmissionError` for one that names what the caller may not hand in.
        """
        types = await self.types.containing(name)
        reached = confined_payload(name, payload, caller, types)
        task_type = types.get(name)
        if task_type is not None and task_type.hooks.intake:
            await self._intakes[task_type.hooks.intake].check(task_type.validate(reached), caller)
        return reached

    async def check_without_intake(
        self, task_type: TaskType, submission: Submission, payload: Mapping[str, Any], caller: Principal
    ) -> None:
        """Raise `InvalidSubmissionError` unless `caller` may have this stored as it is, without an intake."""
        if task_type.hooks.intake:
            validated = task_type.validate(payload, submitted=True)
            task_type.hooks.check_without_intake(validated, submission.delivery)
            if (intake := self._intakes.get(task_type.hooks.intake)) is not None:
                await intake.check(validated, caller)

    # --- finding

    async def find(self, task_id: str) -> Task:
        """Return the task, from the history once the store let it go.

        Raises `TaskNotFoundError`, and `HistoryUnavailableError` while only the history could know.
        """
        return await self.titles.add(await self.timeline.find(task_id))

    async def ids(self, prefix: str, *, caller: Principal = LOCAL, limit: int = 10) -> list[str]:
        """Return the first ids of the caller's tasks that begin with `prefix`, in order, wherever the tasks are.

        A task that was submitted a moment ago is among them. A prefix of fewer than `SHORTEST_PREFIX` characters means
        only the task whose id it is. Raises as `find` does.
        """
        if len(prefix) >= SHORTEST_PREFIX:
            return await self.timeline.ids(prefix, caller=caller, limit=limit)
        try:
            task = await self.find(prefix)
        except TaskNotFoundError:
            return []
        return [prefix] if caller.sees(task.user_id) else []

    async def recent_ids(self, prefix: str = "", *, caller: Principal = LOCAL, limit: int = 50) -> list[str]:
        """Return up to `limit` ids of the caller's tasks that something happened to lately, the latest first.

        They begin with `prefix`. The store alone is asked.
        """
        return await self.timeline.recent_ids(prefix, caller=caller, limit=limit)

    async def kept(self, task_id: str) -> KeptTask:
        """Return the task as the history has it; raises as `find` does."""
        return await self.timeline.kept(task_id)

    async def events(
        self, task_id: str, *, after: tuple[int, int] = START, count: int, kinds: Sequence[str]
    ) -> list[Event]:
        """Return up to `count` events of these kinds after a position, in order, each once; raises as `find` does."""
        return (await self.timeline.events(task_id, after=after, count=count, kinds=kinds)).items

    async def log(self, task_id: str, *, after: tuple[int, int] = START, count: int, least: int = 0) -> list[LogLine]:
        """Return up to `count` lines of the task's log after a position, in order, each once; raises as `find` does.

        `least` is the severity of the least severe line (see `celeriac.model.severity`).
        """
        return (await self.timeline.log(task_id, after=after, count=count, least=least)).items

    async def steps(
        self, task_id: str, *, after: int = 0, count: int = 100, most_bytes: int | None = None
    ) -> tuple[list[TaskStep], int | None]:
        """Return up to `count` steps whose results a task has stored, in order, fewer above `most_bytes`.

        `after` is the number of the last step of the page before. Also returns that of this page's, None if it is the
        last one. Raises as `find` does.
        """
        return await self.timeline.steps(task_id, after=after, count=count, most_bytes=most_bytes)

    async def why(self, task_id: str) -> Why:
        """Return why a task waits; without reasons for one that runs or has ended. Raises as `find` does."""
        # Imported here: programs that only submit do not need the store's readers.
        from celeriac.store.waits import read_waits

        try:
            return why_of(await read_waits(self.store, task_id))
        except TaskNotFoundError:
            return Why((await self.kept(task_id)).task.status)

    # --- changing

    async def cancel(self, task_id: str, message: str = "") -> Status:
        """Cancel: a waiting task is CANCELLED at once; a running one answers PROCESSING and stops soon.

        A cancelled task stays as it is. Raises `TaskNotFoundError`, and `IllegalTransitionError` for a task that
        has ended in another way.
        """
        try:
            return await self.store.cancel(task_id, message)
        except TaskNotFoundError:
            status = (await self.kept(task_id)).task.status
            if not status.final:
                # The store lost it: nothing is there that could stop.
                raise
            if status is not Status.CANCELLED:
                raise IllegalTransitionError(task_id, status, "cancel") from None
            return status

    async def run_now(self, task_id: str) -> Status:
        """Run a task now that waits for its time or for its next attempt; returns its status, mostly PENDING.

        One that waits for a worker or runs stays as it is. Raises `TaskNotFoundError`, and `IllegalTransitionError`
        for one that has ended or waits for something else.
        """
        try:
            return await self.store.run_now(task_id)
        except TaskNotFoundError:
            status = (await self.kept(task_id)).task.status
            if not status.final:
                # The store lost it: nothing is there that could run.
                raise
            raise IllegalTransitionError(task_id, status, "run") from None

    async def retry(
        self,
        task_id: str,
        *,
        payload: Mapping[str, Any] | None = None,
        caller: Principal = LOCAL,
        key: str | None = None,
        nonce: str | None = None,
        rev: int | None = None,
        maker: str | None = None,
        from_step: str = "",
    ) -> Status:
        """Run a failed or cancelled task again with all its attempts; returns PENDING.

        With `from_step` it forgets the step of this name and all that came after it; then it may have completed.

        A task that only the history knows comes back from there, under its id and with its steps. `payload` replaces
        the one it has. Calls of one `key` (or of one `nonce`) count once. With `rev`, a task that has changed since is
        left alone: `ChangedTaskError`. Raises `TaskNotFoundError`, `IllegalTransitionError`, `InvalidSubmissionError`,
        `PayloadTooLargeError`, `QueueFullError`, `KeyFullError` or `GroupLimitError`. `maker`: who makes its group, if
        not `caller`.
        """
        new = None if payload is None else await self._new_payload(task_id, payload, caller)
        await self.bring_back(await self.store.dependencies(task_id), None)

        async def again(kept: Mapping[str, str] | None, steps: Mapping[str, str] | None = None) -> Status:
            return await self.store.retry(
                task_id,
                payload=None if new is None else new.text,
                secret_fields=() if new is None else new.secret_fields,
                rev=rev,
                kept=kept,
                nonce=nonce if key is None else f"key:{key}",
                maker=caller.group_maker if maker is None else maker,
                from_step=from_step,
                kept_steps=steps,
            )

        try:
            return await again(None)
        except TaskNotFoundError:
            kept = await self.kept(task_id)
            await self.bring_back(kept.task.depends_on, None)
            return await again(kept.record, await self.timeline.kept_steps(task_id))

    async def _new_payload(self, task_id: str, payload: Mapping[str, Any], caller: Principal) -> NewPayload:
        task = await self.find(task_id)
        types = await self.types.containing(task.type)
        task_type = known_type(task.type, types)
        reached = confined_payload(task.type, payload, caller, types)
        # Callers are shown masks: one that is sent back stands for the secret that the task has.
        meant = restored(reached, task.payload, task_type.secrets)
        found = await self.store.parents(task.depends_on) if task.workflow_id is not None else {}
        nodes = Parents(found, task.workflow_id).by_node
        new = checked_payload(task_type, meant, self._settings, task.depends_on, nodes.keys())
        task_type.hooks.check_retry(task, new.value)
        if task_type.hooks.intake and task_type.hooks.intake in self._intakes:
            await self._intakes[task_type.hooks.intake].check(new.value, caller)
        return new

    async def delete(self, task_id: str, *, user_id: str) -> None:
        """Remove a user's task that has ended from the store; the history keeps it.

        Raises `TaskNotFoundError`, and `IllegalTransitionError` for one that has not ended.
        """
        await self.store.remove(task_id, user_id=user_id)

    # --- many at once

    async def bulk(
        self, wanted: Mapping[str, Any], *, caller: Principal = LOCAL, idempotency_key: str | None = None
    ) -> Submitted:
        """Submit the operation that cancels or retries all tasks which a filter selects (see `BulkPayload`).

        Raises as `submit` does, and `HistoryMissingError` or `HistoryUnavailableError` without a history.
        """
        request = SubmitRequest(type=BULK.name, payload=dict(wanted))
        await self._needed_history().check()
        return await self.submit(request, caller=caller, idempotency_key=idempotency_key)

    async def count(self, wanted: Mapping[str, Any], *, caller: Principal = LOCAL) -> int:
        """Return how many tasks a bulk operation would act on now; raises as `bulk` does."""
        reached = confined_payload(BULK.name, wanted, caller, await self.types.containing(BULK.name))
        payload: BulkPayload = BULK.validate(reached)
        return await self._needed_history().count(payload.targets)

    def _needed_history(self) -> TaskHistory:
        if self.history is None:
            raise HistoryMissingError("no history is kept here: set DATABASE_URL, and run `celeriac migrate`")
        return self.history
