"""The service of tasks: the one door through which every front door submits, finds and changes them.

HTTP routes, gRPC, the dispatch API, `.delay()`, definitions, bulk operations and the command line translate into
calls of `Tasks` (or of the pure functions in `submission.py`) and have no rules of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from celeriac.access.principal import LOCAL, Principal
from celeriac.errors import (
    CeleriacError,
    HistoryMissingError,
    IllegalTransitionError,
    InvalidSubmissionError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from celeriac.model import Event, KeptTask, LogLine, Status, Submission, Submitted, Task
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.confining import confined, confined_payload
from celeriac.tasks.request import SubmitRequest, read_batch_item
from celeriac.tasks.secret_fields import restored
from celeriac.tasks.submission import NewPayload, build_submission, checked_payload, known_type
from celeriac.tasks.timeline import START, TaskHistory, Timeline
from celeriac.tasks.types.bulk import BULK, BulkPayload

if TYPE_CHECKING:
    from celeriac.settings import Settings
    from celeriac.store.task_store import TaskStore
    from celeriac.tasks.registry import TaskType

log = logging.getLogger(__name__)

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
    ) -> None:
        self.store = store
        self.types = types
        self.history = history
        self.timeline = Timeline(store, history)
        self._intakes = dict(intakes or {})
        self._settings = settings

    # --- submitting

    async def submit(
        self, request: SubmitRequest, *, caller: Principal = LOCAL, idempotency_key: str | None = None
    ) -> Submitted:
        """Store a task to run; it is durable when this returns.

        A repeated `idempotency_key` (per user) answers with the first task. Raises `InvalidSubmissionError`,
        `PayloadTooLargeError`, `QueueFullError`, and what the intake of the task's type raises.
        """
        types = self.types.local_with(request.type) or await self.types.containing(request.type)
        if caller is not LOCAL:
            request = confined(request, caller, types)
        submission = build_submission(
            request, self._settings, types, idempotency_key=idempotency_key, maker=caller.group_maker
        )
        task_type = known_type(request.type, types)
        if not task_type.hooks.intake:
            return await self.store.submit(submission)
        return await self._take_in(task_type, submission, request.payload, caller)

    async def submit_many(
        self, documents: Sequence[object], *, caller: Principal = LOCAL, idempotency_key: str | None = None
    ) -> list[Submitted | CeleriacError]:
        """Submit each document (see `BatchItem`); returns the outcome of each, in order.

        A refused task does not disturb the others. A task without a key of its own gets `idempotency_key` and its
        place (`K:0`, `K:1`, …). Raises `StoreUnavailableError` only if the store took none.
        """
        prepared: list[Awaitable[Submitted] | CeleriacError] = []
        refused = 0
        for place, document in enumerate(documents):
            if place % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            key = None if idempotency_key is None else f"{idempotency_key}:{place}"
            one = await self._prepared(document, caller, key)
            if isinstance(one, InvalidSubmissionError):
                refused += 1
                one = one.brief() if refused > _TOLD_AT_LENGTH else one
            prepared.append(one)
        # All calls begin in one tick, so they share a round trip.
        replies = iter(
            await asyncio.gather(
                *(one for one in prepared if not isinstance(one, CeleriacError)), return_exceptions=True
            )
        )
        outcomes: list[Submitted | CeleriacError] = []
        for one in prepared:
            outcome = one if isinstance(one, CeleriacError) else next(replies)
            if not isinstance(outcome, Submitted | CeleriacError):
                raise outcome
            outcomes.append(outcome)
        away = next((outcome for outcome in outcomes if isinstance(outcome, StoreUnavailableError)), None)
        if away is not None and not any(isinstance(outcome, Submitted) for outcome in outcomes):
            raise away
        return outcomes

    async def _prepared(
        self, document: object, caller: Principal, key: str | None
    ) -> Awaitable[Submitted] | CeleriacError:
        """Return the call that submits a document, or why it is refused."""
        try:
            item = read_batch_item(document)
            types = await self.types.containing(item.type)
            item = confined(item, caller, types)
            key = item.idempotency_key or key
            submission = build_submission(item, self._settings, types, idempotency_key=key, maker=caller.group_maker)
            task_type = known_type(item.type, types)
        except CeleriacError as exc:
            return exc
        except Exception as exc:
            # A task type's own validator may raise anything; the other tasks have nothing to do with it.
            log.exception("a submission failed unexpectedly")
            error = CeleriacError(str(exc))
            error.__cause__ = exc
            return error
        if not task_type.hooks.intake:
            return self.store.submit(submission)
        return self._take_in(task_type, submission, item.payload, caller)

    async def _take_in(
        self, task_type: TaskType, submission: Submission, payload: Mapping[str, Any], caller: Principal
    ) -> Submitted:
        return await self._intakes[task_type.hooks.intake].submit(submission, task_type.validate(payload), caller)

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

    # --- finding

    async def find(self, task_id: str) -> Task:
        """Return the task, from the history once the store let it go.

        Raises `TaskNotFoundError`, and `HistoryUnavailableError` while only the history could know.
        """
        return await self.timeline.find(task_id)

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
    ) -> Status:
        """Run a failed or cancelled task again with all its attempts; returns PENDING.

        A task that only the history knows comes back from there, under its id. `payload` replaces the one it has.
        Calls of one `key` (or of one `nonce`) count once. With `rev`, a task that has changed since is left alone:
        `ChangedTaskError`. Raises `TaskNotFoundError`, `IllegalTransitionError`, `InvalidSubmissionError`,
        `PayloadTooLargeError`, `QueueFullError` or `GroupLimitError`. `maker`: who makes its group, if not `caller`.
        """
        new = None if payload is None else await self._new_payload(task_id, payload, caller)

        async def again(kept: Mapping[str, str] | None) -> Status:
            return await self.store.retry(
                task_id,
                payload=None if new is None else new.text,
                secret_fields=() if new is None else new.secret_fields,
                rev=rev,
                kept=kept,
                nonce=nonce if key is None else f"key:{key}",
                maker=caller.group_maker if maker is None else maker,
            )

        try:
            return await again(None)
        except TaskNotFoundError:
            return await again((await self.kept(task_id)).record)

    async def _new_payload(self, task_id: str, payload: Mapping[str, Any], caller: Principal) -> NewPayload:
        task = await self.find(task_id)
        types = await self.types.containing(task.type)
        task_type = known_type(task.type, types)
        reached = confined_payload(task.type, payload, caller, types)
        # Callers are shown masks: one that is sent back stands for the secret that the task has.
        new = checked_payload(task_type, restored(reached, task.payload, task_type.secrets), self._settings)
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
