"""Task types: one decorated function each, with a typed payload that is checked at submission too.

    @task("thumbnail", group="media", max_retries=5, timeout_s=30)
    async def thumbnail(payload: Thumbnail, ctx: Context) -> dict[str, str]: ...

The payload is the parameter that is not the `Context`, if that is a model, a dataclass, a TypedDict or a dict. Other
parameters are fields of the payload.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, overload

from celeriac.errors import SettingsError
from celeriac.handlers.context import BlockingContext, Context
from celeriac.installation.importing import importing
from celeriac.tasks.declared_schedule import Schedules, scheduled
from celeriac.tasks.key_source import KeyOf, key_source
from celeriac.tasks.parameters import module_of, parameters_of, result_of
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks
from celeriac.tasks.titles import title_template
from celeriac.tasks.type_once import OnceOptions, type_once

P = ParamSpec("P")
R = TypeVar("R")
X = TypeVar("X")

_NOTHING_SPECIAL: Final = TypeHooks()

#: The function of a task type.
Handler = Callable[..., Any]
TYPE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}")


class Registry:
    """The task types that a process knows, by name."""

    def __init__(self, types: Iterable[TaskType] = ()) -> None:
        self._types: dict[str, TaskType] = {}
        self._surround: Callable[[Handler], Handler] | None = None
        for task_type in types:
            self.add(task_type)

    def add(self, task_type: TaskType) -> TaskType:
        """Register a type; a second one of the same name from elsewhere is a `SettingsError`."""
        known = self._types.get(task_type.name)
        if known is not None and _origin(known) != _origin(task_type) and known.handler is not None:
            raise SettingsError(
                f"two task types are named {task_type.name!r}: {_origin(known)} and {_origin(task_type)}"
            )
        self._types[task_type.name] = self.surrounded(task_type)
        return task_type

    def surround(self, surround: Callable[[Handler], Handler]) -> None:
        """Have workers call what `surround` makes of each handler; code that calls a type calls the handler itself."""
        self._surround = surround
        self._types = {name: self.surrounded(task_type) for name, task_type in self._types.items()}

    def surrounded(self, task_type: TaskType) -> TaskType:
        """Return a type as workers run it."""
        if self._surround is None or task_type.handler is None:
            return task_type
        return replace(task_type, handler=self._surround(task_type.handler))

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
    return "(no handler)" if handler is None else f"{module_of(handler)}.{handler.__qualname__}"


#: The types of this process: what `@task` registers and `load` imports.
registry: Final = Registry()


class Decorator(Protocol):
    """Makes a function a task type. The type's parameters are those of the function without the context.

    Type checkers see a context that comes first, or second after a single payload.
    """

    @overload
    def __call__(self, handler: Callable[[X, Context], Coroutine[Any, Any, R]], /) -> TaskType[[X], R]: ...
    @overload
    def __call__(self, handler: Callable[[X, BlockingContext], R], /) -> TaskType[[X], R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> TaskType[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[BlockingContext, P], R], /) -> TaskType[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, Coroutine[Any, Any, R]], /) -> TaskType[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R], /) -> TaskType[P, R]: ...


@overload
def task(handler: Callable[[X, Context], Coroutine[Any, Any, R]], /) -> TaskType[[X], R]: ...
@overload
def task(handler: Callable[[X, BlockingContext], R], /) -> TaskType[[X], R]: ...
@overload
def task(handler: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> TaskType[P, R]: ...
@overload
def task(handler: Callable[Concatenate[BlockingContext, P], R], /) -> TaskType[P, R]: ...
@overload
def task(handler: Callable[P, Coroutine[Any, Any, R]], /) -> TaskType[P, R]: ...
@overload
def task(handler: Callable[P, R], /) -> TaskType[P, R]: ...
@overload
def task(
    name: str | None = None,
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
    schedule: Schedules = None,
    key: KeyOf | None = None,
    once: OnceOptions | None = None,
    title: str | None = None,
) -> Decorator: ...


def task(
    name: str | Handler | None = None,
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
    schedule: Schedules = None,
    key: KeyOf | None = None,
    once: OnceOptions | None = None,
    title: str | None = None,
) -> TaskType | Decorator:
    """Make a function a task type: `@task`, `@task()`, `@task("name")` or `@task(name="name", ...)`.

    The name, by default the function's, is what callers submit (`type`). Its parameters are the payload (see
    `parameters_of`). Retries follow an exponential backoff (see `RetryPolicy`); `SkipRetry`, or an exception of
    `final_errors`, ends the task at once. Its record leaves the store `retention_s` after its end; history keeps it
    longer. `concurrency` is for heavy work: one worker process runs at most so many at once. `schedule`, one or a list
    of `cron(...)` and `every(...)`, makes definitions that follow the code (docs/schedules.md).
    `key` says for which customer, tenant or resource a task is that was submitted without a key: a dotted path of the
    payload (`"customer"`), or a function of the validated payload; without anything there, the task has no key.
    `once` makes the tasks unique, by a field of the payload or a function of it (docs/once.md).
    `title` is what lists call a task, a text with fields of the payload: `"order {order}"`.
    Raises `SettingsError` for a name, a parameter, a key, a title or a schedule that cannot be used, and for a second
    type of the same name.
    """
    if callable(name):
        return task()(name)
    if name is not None and not (isinstance(name, str) and TYPE_NAME.fullmatch(name)):
        raise SettingsError(f"{name!r} is not a valid name for a task type: use letters, digits and _ . : / -")
    chosen = name

    def decorate(handler: Handler) -> Any:
        name = handler.__name__ if chosen is None else chosen
        if not TYPE_NAME.fullmatch(name):
            raise SettingsError(f'{name!r} is not a valid name for a task type: write @task("name")')
        parameters, payload = parameters_of(name, handler)
        task_type = TaskType(
            name=name,
            payload=payload,
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
            parameters=parameters,
            result=result_of(handler),
            key=key_source(name, key, payload),
            once=type_once(name, once, payload),
            title_template=title_template(name, title, payload),
        )
        return registry.add(scheduled(task_type, schedule))

    return decorate


def load(modules: Iterable[str]) -> Registry:
    """Import the modules that hold task types and return the registry of this process.

    Raises `SettingsError` for a module that cannot be imported, with file and line.
    """
    for module in modules:
        try:
            with importing(module):
                importlib.import_module(module)
        except SettingsError as exc:
            if isinstance(missing := exc.__cause__, ModuleNotFoundError) and f"{module}.".startswith(
                f"{missing.name}."
            ):
                raise SettingsError(
                    f"imports: there is no module {missing.name!r}: name a module that can be imported from the folder"
                    f" in which the process runs ({Path.cwd()})"
                ) from missing
            raise
    return registry
