"""What a type of tasks is: one decorated function, with a typed payload that is checked at submission too.

How a type is called is in the room `calling`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from celeriac import json_text
from celeriac.access.principal import Principal
from celeriac.calling.handle import ReadResult, result_of
from celeriac.calling.options import NewTask, TaskOptions, submission_document, to_json
from celeriac.calling.submittable import P, R, Submittable
from celeriac.errors import InvalidResultError, InvalidSubmissionError
from celeriac.model import Delivery, Outcome, Task
from celeriac.secret_fields import secret_paths
from celeriac.tasks.declared_schedule import Schedule
from celeriac.tasks.key_source import KeySource, read_key
from celeriac.tasks.parameters import Parameters
from celeriac.tasks.references import may_have_references
from celeriac.tasks.request import check_idempotency_key, read_batch_item
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.titles import TitleTemplate
from celeriac.tasks.type_once import TypeOnce
from celeriac.violations import violations_of

if TYPE_CHECKING:
    from celeriac.settings import Settings


class TypeHooks:
    """What is special about submitting tasks of one type. The default is: nothing.

    A type with something special has a subclass of its own; front doors and services never ask for a type's name.
    """

    #: Name of the intake that submits its tasks (see `Tasks`); "" means that they are stored as they are.
    intake: str = ""
    #: How its tasks reach an executor; None means as the group says.
    delivery: Delivery | None = None
    #: Whether a bulk operation leaves its tasks out unless the filter names the type.
    bulk_by_name_only: bool = False
    #: Whether all of a payload is checked at the submission, so that it may not have results of other tasks in it.
    whole_payload: bool = False
    #: Whether a type of the same name that workers announce takes its place.
    gives_way: bool = False
    #: Whether it is a plain Celery task, whose payload is its arguments.
    celery_call: bool = False

    def awaits(self, payload: Any) -> dict[str, Any] | None:
        """Return what a task with this validated payload waits for instead of a worker; None if a worker runs it."""
        return None

    def confined(self, payload: Mapping[str, Any], caller: Principal) -> Mapping[str, Any]:
        """Return the payload in a form that reaches nothing of other users; `caller` is not an admin."""
        return payload

    def retention_s(self, settings: Settings) -> float | None:
        """Return how long a record stays after its task's end (seconds); None means as the type says."""
        return None

    def check_without_intake(self, payload: Any, delivery: Delivery) -> None:
        """Raise `InvalidSubmissionError` if this validated payload needs the intake.

        Definitions and `.delay()` store their tasks without it.
        """

    def content_payload(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the payload that carries a definition's content and the facts of an instance."""
        return data

    def original_path(self, task: Task) -> str | None:
        """Return the file that `task` works on, as its payload names it; None if it names none."""
        return None

    def check_retry(self, task: Task, payload: Any) -> None:
        """Raise `InvalidSubmissionError` unless a retry of `task` may have this validated payload instead."""


@dataclass(frozen=True, repr=False)
class TaskType(Submittable[P, R]):
    """One kind of task: its name, the shape of its payload, its policies and, on workers, its handler.

    It is generic in the parameters of its function, without the context, and in what that returns.
    """

    name: str
    payload: TypeAdapter[Any]
    handler: Callable[..., Any] | None = None
    #: The group that runs it when the submission names none.
    group: str = "default"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Longest run of one attempt in seconds; None means without a limit.
    timeout_s: float | None = None
    #: How long the record stays in the store after the task's end, in seconds; None is the settings' time.
    retention_s: float | None = None
    #: Most attempts at once in one worker process; None leaves it to the worker's own limits.
    concurrency: int | None = None
    #: Exceptions of these classes fail the task at once, as `SkipRetry` does.
    final_errors: tuple[type[BaseException], ...] = ()
    description: str = ""
    #: For types whose policy hangs on payload and settings: returns it, or raises `InvalidSubmissionError`.
    policy: Callable[[Any, Settings], RetryPolicy] | None = None
    #: What the handler's parameters mean.
    parameters: Parameters = field(default_factory=Parameters)
    #: What the handler returns; results are not checked if it is not known.
    result: TypeAdapter[Any] | None = None
    #: The schema that workers announced, for a type that this process does not have itself.
    announced_schema: dict[str, Any] | None = None
    #: What is special about submitting its tasks.
    hooks: TypeHooks = field(default_factory=TypeHooks)
    #: Where its tasks have their keys from, if their callers give none.
    key: KeySource | None = None
    #: When tasks of the type run by themselves.
    schedules: tuple[Schedule, ...] = ()
    #: The key of `once` that its tasks have.
    once: TypeOnce | None = None
    #: How lists call its tasks.
    title_template: TitleTemplate | None = None
    #: Awaited once when a worker process ends, to let go of what the handler holds.
    close: Callable[[], Awaitable[None]] | None = None

    @cached_property
    def is_async(self) -> bool:
        """Whether the handler is an `async def`."""
        return inspect.iscoroutinefunction(self.handler)

    def validate(self, payload: Any, *, submitted: bool = False) -> Any:
        """Return `payload` as the handler's type; raises `InvalidSubmissionError` that names the fields.

        `submitted` adds the checks for new submissions: a payload that was accepted once is run as it is.
        """
        try:
            return self.payload.validate_python(payload, context={"submitted": submitted})
        except ValidationError as exc:
            raise InvalidSubmissionError(violations_of(exc, prefix="payload")) from exc

    def retry_policy(self, payload: Any, settings: Settings) -> RetryPolicy:
        """Return the policy for this validated payload; raises `InvalidSubmissionError` if it cannot run."""
        return self.retry if self.policy is None else self.policy(payload, settings)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the payload."""
        return self.payload.json_schema() if self.announced_schema is None else self.announced_schema

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The paths of the payload's secret fields."""
        try:
            return secret_paths(self.json_schema())
        except PydanticUserError:
            # A type without a JSON schema has no model, and so no secret fields.
            return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{self.parameters.signature}>"

    @property
    def title(self) -> str:
        """What errors call it."""
        return self.name

    def new_task(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions | None = None) -> NewTask:
        """Return the checked submission that a call means, in JSON; raises `TypeError`, `InvalidSubmissionError`."""
        whole = self.parameters.whole_payload(args, kwargs)
        try:
            return self._checked(self.parameters.payload_of(self.name, args, kwargs), options or {})
        except (TypeError, InvalidSubmissionError):
            if whole is None:
                raise
            return self._checked(whole, options or {})

    def _checked(self, payload: Any, options: TaskOptions) -> NewTask:
        given: NewTask = {"type": self.name, "payload": payload, **options}
        key = options.get("idempotency_key")
        if key is not None:
            check_idempotency_key(key)
        text = to_json({**submission_document(given), "idempotency_key": key})
        document = json_text.read(text)
        read_batch_item(document)
        if not may_have_references(text.decode()):
            value = self.validate(document["payload"], submitted=True)
            if self.key is not None and document.get("key") is None:
                # Here, because the API may not have the function that computes it.
                document["key"] = read_key(self.key, document["payload"], value)
        return cast(NewTask, document)

    def reader(self) -> ReadResult[R]:
        """Return what reads a result of the type that the function returns."""
        return self._read_result

    def _read_result(self, outcome: Outcome) -> R:
        result = result_of(outcome)
        if self.result is None:
            return cast(R, result)
        try:
            return cast(R, self.result.validate_json(json_text.write_bytes(result)))
        except ValidationError as exc:
            raise InvalidResultError(outcome.task_id, self.name, violations_of(exc, prefix="result")) from exc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler as the plain function it is (handy in unit tests)."""
        if self.handler is None:
            raise TypeError(f"task type {self.name!r} has no handler in this process")
        return self.handler(*args, **kwargs)
