"""Task types: one decorated function each, with a typed payload that is checked at submission too.

    @task("thumbnail", group="media", max_retries=5, timeout_s=30)
    async def thumbnail(payload: Thumbnail, ctx: Context) -> dict[str, str]: ...

The payload is the parameter that is not the `Context`; its annotation may be anything Pydantic can
validate from a JSON object (a model, a dataclass, a TypedDict, `dict[str, Any]`).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from celeriac.access.principal import Principal
from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.handlers.context import Context
from celeriac.model import Delivery, Task
from celeriac.settings import Settings
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.secret_fields import secret_paths
from celeriac.violations import violations_of


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


_NOTHING_SPECIAL: Final = TypeHooks()

TYPE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}")


@dataclass(frozen=True)
class TaskType:
    """One kind of task: its name, the shape of its payload, its policies and, on workers, its handler."""

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
    #: Names of the handler's parameters for payload and context; None if it does not take one.
    payload_parameter: str | None = "payload"
    context_parameter: str | None = "ctx"
    #: The schema that workers announced, for a type that this process does not have itself.
    announced_schema: dict[str, Any] | None = None
    #: What is special about submitting its tasks.
    hooks: TypeHooks = field(default_factory=TypeHooks)
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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler as the plain function it is (handy in unit tests)."""
        if self.handler is None:
            raise TypeError(f"task type {self.name!r} has no handler in this process")
        return self.handler(*args, **kwargs)


class Registry:
    """The task types that a process knows, by name."""

    def __init__(self, types: Iterable[TaskType] = ()) -> None:
        self._types: dict[str, TaskType] = {}
        for task_type in types:
            self.add(task_type)

    def add(self, task_type: TaskType) -> TaskType:
        """Register a type; a second one of the same name from elsewhere is a `SettingsError`."""
        known = self._types.get(task_type.name)
        if known is not None and _origin(known) != _origin(task_type) and known.handler is not None:
            raise SettingsError(
                f"two task types are named {task_type.name!r}: {_origin(known)} and {_origin(task_type)}"
            )
        self._types[task_type.name] = task_type
        return task_type

    def get(self, name: str) -> TaskType | None:
        """Return the type of this name, or None."""
        return self._types.get(name)

    def hooks_of(self, name: str) -> TypeHooks:
        """Return what is special about a type; nothing is, for a type that this process does not have."""
        task_type = self._types.get(name)
        return _NOTHING_SPECIAL if task_type is None else task_type.hooks

    def __iter__(self) -> Iterator[TaskType]:
        return iter(sorted(self._types.values(), key=lambda t: t.name))

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __len__(self) -> int:
        return len(self._types)


def _origin(task_type: TaskType) -> str:
    handler = task_type.handler
    return "(no handler)" if handler is None else f"{handler.__module__}.{handler.__qualname__}"


#: The types of this process: what `@task` registers and `load` imports.
registry: Final = Registry()


def task(
    name: str,
    *,
    group: str = "default",
    max_retries: int = 3,
    retry_delay_s: float = 1.0,
    retry_backoff: float = 2.0,
    retry_max_delay_s: float = 300.0,
    timeout_s: float | None = None,
    retention_s: float | None = None,
    concurrency: int | None = None,
    final_errors: tuple[type[BaseException], ...] = (),
) -> Callable[[Callable[..., Any]], TaskType]:
    """Make a function a task type.

    Name it as callers will (`type` of a submission). Retries follow an exponential backoff (see
    `RetryPolicy`); `SkipRetry`, or an exception of `final_errors`, ends the task at once. Its record
    leaves the store `retention_s` after its end; history keeps it longer.
    `concurrency` is for heavy work: one worker process runs at most so many at once.
    """
    if not TYPE_NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not a valid name for a task type: use letters, digits and _ . : / -")

    def decorate(handler: Callable[..., Any]) -> TaskType:
        adapter, payload_parameter, context_parameter = _signature(name, handler)
        return registry.add(
            TaskType(
                name=name,
                payload=adapter,
                handler=handler,
                group=group,
                retry=RetryPolicy(
                    max_retries=max_retries,
                    delay_s=retry_delay_s,
                    backoff=retry_backoff,
                    max_delay_s=retry_max_delay_s,
                ),
                timeout_s=timeout_s,
                retention_s=retention_s,
                concurrency=concurrency,
                final_errors=final_errors,
                description=inspect.getdoc(handler) or "",
                payload_parameter=payload_parameter,
                context_parameter=context_parameter,
            )
        )

    return decorate


def _signature(name: str, handler: Callable[..., Any]) -> tuple[TypeAdapter[Any], str | None, str | None]:
    hints = get_type_hints(handler)
    payload_parameter: str | None = None
    context_parameter: str | None = None
    payload_type: Any = dict[str, Any]
    for parameter in inspect.signature(handler).parameters.values():
        hint = hints.get(parameter.name)
        if hint is Context or (hint is None and parameter.name == "ctx"):
            context_parameter = parameter.name
        elif payload_parameter is None:
            payload_parameter = parameter.name
            payload_type = hint if hint is not None else payload_type
        elif parameter.default is inspect.Parameter.empty:
            raise SettingsError(
                f"task type {name!r}: a handler takes one payload and one Context; {parameter.name!r} is a third"
            )
    try:
        return TypeAdapter(payload_type), payload_parameter, context_parameter
    except PydanticUserError as exc:
        raise SettingsError(f"task type {name!r}: {payload_type!r} cannot be a payload: {exc}") from exc


def load(modules: Iterable[str]) -> Registry:
    """Import the modules that hold task types and return the registry of this process."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as exc:
            raise SettingsError(
                f"imports: cannot import {module!r} ({exc}); it must be importable from the folder"
                " in which the process runs"
            ) from exc
    return registry
