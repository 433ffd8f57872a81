"""Submissions of which the caller wrote a type and a payload, and nothing else, at a fraction of the cost.

Most submissions are such. What they have in common is made once for each type; `submission.py` has the rules. Whatever
is not as usual is left to `build_submission`, which says what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import Status, Submitted
from celeriac.store.submit_call import SubmissionKind, heard_for_good
from celeriac.tasks.references import may_have_references
from celeriac.tasks.request import IDEMPOTENCY_KEY
from celeriac.tasks.submission import new_task_id, plain_submission

if TYPE_CHECKING:
    from celeriac.model import Reason, Submission
    from celeriac.settings import Settings
    from celeriac.store.task_store import TaskStore
    from celeriac.tasks.registry import Registry
    from celeriac.tasks.task_type import TaskType
    from celeriac.tasks.warnings import Warnings

_FIELDS: Final = frozenset({"type", "payload"})


class PlainKind(NamedTuple):
    """What plain submissions of a type have in common."""

    task_type: TaskType
    #: Without an id, and without a payload.
    submission: Submission
    kind: SubmissionKind
    #: Group, type and delivery.
    place: tuple[str, str, str]
    #: Whether every JSON object is a payload of the type.
    takes_all: bool


class PlainSubmission(NamedTuple):
    """A submission that is ready to be stored; `payload` is JSON."""

    task_id: str
    payload: str
    #: Its kind for the script, with its idempotency key.
    kind: str
    of: PlainKind


#: Hears the outcome of a submission; it must not raise.
Heard = Callable[[Submitted | Exception], None]


class PlainSubmissions:
    """Builds and stores the plain submissions of one process; belongs to one event loop.

    `warnings` is None where answers have none. A submission is durable when its outcome is known.
    """

    def __init__(self, store: TaskStore, settings: Settings, warnings: Warnings | None = None) -> None:
        self._store = store
        self._settings = settings
        self._warnings = warnings
        self._kinds: dict[str, tuple[TaskType, PlainKind | None]] = {}
        #: Submissions that wait for the list of workers.
        self._waiting: set[asyncio.Task[None]] = set()

    def build(self, document: object, types: Registry, idempotency_key: str | None = None) -> PlainSubmission | None:
        """Return the submission that a JSON document is; None if it is not a plain one of these types, or not valid."""
        if type(document) is not dict or len(document) != 2 or document.keys() != _FIELDS:
            return None
        name, payload = document["type"], document["payload"]
        if type(name) is not str or type(payload) is not dict or (task_type := types.get(name)) is None:
            return None
        known = self._kinds.get(name)
        if known is None or known[0] is not task_type:
            known = self._kinds[name] = (task_type, self._made(task_type))
        kind = known[1]
        if kind is None:
            return None
        try:
            encoded = json_text.write_bytes(payload)
            if not kind.takes_all:
                task_type.payload.validator.validate_python(payload, context={"submitted": True})
        except (JsonError, ValidationError):
            return None
        text = encoded.decode()
        if len(encoded) > self._settings.max_body_bytes or may_have_references(text):
            return None
        if idempotency_key is None:
            return PlainSubmission(new_task_id(), text, kind.kind.text, kind)
        if IDEMPOTENCY_KEY.fullmatch(idempotency_key) is None:
            return None
        return PlainSubmission(new_task_id(), text, kind.kind.with_key(idempotency_key), kind)

    def begin(self, plain: PlainSubmission, heard: Heard) -> None:
        """Begin to store a submission."""
        if self._warnings is not None:
            # In the same moment, so that the caller hardly waits for it.
            self._warnings.prepare()
        self._store.submit_soon(plain.task_id, plain.payload, plain.kind, partial(self._heard, plain, heard))

    def _heard(self, plain: PlainSubmission, heard: Heard, reply: Any) -> None:
        try:
            outcome = _submitted(plain, reply)
        except Exception as exc:
            heard(exc)
            return
        found = self._known_warnings(outcome, plain.of)
        if found is None:
            waiting = asyncio.get_running_loop().create_task(self._tell_warned(outcome, plain.of, heard))
            self._waiting.add(waiting)
            waiting.add_done_callback(self._waiting.discard)
        else:
            heard(replace(outcome, warnings=found) if found else outcome)

    async def _tell_warned(self, outcome: Submitted, kind: PlainKind, heard: Heard) -> None:
        heard(await self._warned(outcome, kind))

    def _known_warnings(self, outcome: Submitted, kind: PlainKind) -> tuple[Reason, ...] | None:
        # A repeated submission may be answered with a task that has ended.
        if self._warnings is None or outcome.status.final:
            return ()
        return self._warnings.known(*kind.place)

    async def _warned(self, outcome: Submitted, kind: PlainKind) -> Submitted:
        found = self._known_warnings(outcome, kind)
        if found is None:
            assert self._warnings is not None
            found = await self._warnings.of(*kind.place)
        return replace(outcome, warnings=found) if found else outcome

    async def one(self, plain: PlainSubmission) -> Submitted:
        """Store a submission; raises as `Tasks.submit` does."""
        (outcome,) = await self.each([plain])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def each(self, plain: Sequence[PlainSubmission]) -> list[Submitted | BaseException]:
        """Store submissions; returns their outcomes, in order."""
        if self._warnings is not None:
            self._warnings.prepare()
        replies = await self._store.submit_each((one.task_id, one.payload, one.kind) for one in plain)
        outcomes: list[Submitted | BaseException] = []
        for one, reply in zip(plain, replies, strict=True):
            try:
                outcomes.append(await self._warned(_submitted(one, reply), one.of))
            except Exception as exc:
                outcomes.append(exc)
        return outcomes

    def _made(self, task_type: TaskType) -> PlainKind | None:
        submission = plain_submission(task_type, self._settings)
        if submission is None:
            return None
        kind = SubmissionKind(submission, self._settings.queues)
        place = (submission.group, submission.type, submission.delivery)
        return PlainKind(task_type, submission, kind, place, _takes_all(task_type))


def _submitted(plain: PlainSubmission, reply: Any) -> Submitted:
    """Return what the store answered to a submission, or its error means; raises as `heard_for_good` does."""
    if type(reply) is str:
        return Submitted(plain.task_id, Status[reply], True)
    return heard_for_good(replace(plain.of.submission, task_id=plain.task_id), reply)


def _takes_all(task_type: TaskType) -> bool:
    """Return whether the payload is `dict[str, Any]`, of which nothing has to be checked."""
    schema: Any = task_type.payload.core_schema
    values = schema.get("values_schema", {"type": "any"}) if schema.get("type") == "dict" else {}
    others = schema.keys() - {"type", "keys_schema", "values_schema", "metadata", "strict"}
    return values.get("type") == "any" and schema.get("keys_schema") == {"type": "str"} and not others
