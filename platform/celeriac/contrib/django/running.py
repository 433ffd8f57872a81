"""How a worker calls the function of a Django task."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar, Unpack, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from celeriac.contrib.django.interface import Task, TaskContext, normalize_json, task_finished, task_started
from celeriac.contrib.django.results import failed, running_result, succeeded
from celeriac.errors import SettingsError, SkipRetry, TaskCancelledError, TaskTimeoutError
from celeriac.handlers.context import BlockingContext, Context
from celeriac.handlers.rate_limited import rate_limited_by
from celeriac.tasks.parameters import Parameters
from celeriac.tasks.registry import TYPE_NAME, Handler, registry
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType

F = TypeVar("F", bound=Callable[..., Any])

#: Where the function of a task keeps what `celeriac_options` said.
_OPTIONS: Final = "__celeriac_options__"


class CallPayload(TypedDict, total=False):
    """The payload of a Django task: what its function is called with."""

    args: list[Any]
    kwargs: dict[str, Any]


class Options(TypedDict, total=False):
    """What `celeriac_options` takes: as `celeriac.task` does."""

    max_retries: int
    retry_delay_s: float
    retry_backoff: float
    retry_max_delay_s: float
    timeout_s: float | None
    retention_s: float | None
    concurrency: int | None
    final_errors: tuple[type[BaseException], ...]


def celeriac_options(**options: Unpack[Options]) -> Callable[[F], F]:
    """Give the function of a Django task options that Django's `@task` does not have; write it below `@task`.

    Without it a task is not retried, as Django's interface has no retries.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise SettingsError(
            f"celeriac_options has no option {sorted(unknown)[0]!r}; known are: {', '.join(Options.__annotations__)}"
        )

    def decorate(function: F) -> F:
        if isinstance(function, Task):
            raise SettingsError("write @celeriac_options(...) below @task: it is for the function")
        setattr(function, _OPTIONS, options)
        return function

    return decorate


_PAYLOAD: Final = TypeAdapter[Any](CallPayload)
_CALL: Final = Parameters("call", "ctx")


def register(task: Any) -> None:
    """Make a Django task a type of Celeriac under its path, if it is the first one of its function."""
    name = task.module_path
    known = registry.get(name)
    if known is not None and getattr(known.handler, "django_function", None) is task.func:
        return
    if TYPE_NAME.fullmatch(name) is None:
        raise SettingsError(f"{name!r} is not a valid name for a task type: use letters, digits and _ . : / -")
    chosen = cast(Options, getattr(task.func, _OPTIONS, {}))
    registry.add(
        TaskType(
            name=name,
            payload=_PAYLOAD,
            handler=_handler(task),
            group=task.queue_name,
            retry=RetryPolicy(
                max_retries=chosen.get("max_retries", 0),
                delay_s=chosen.get("retry_delay_s", 1.0),
                backoff=chosen.get("retry_backoff", 2.0),
                max_delay_s=chosen.get("retry_max_delay_s", 300.0),
            ),
            timeout_s=chosen.get("timeout_s"),
            retention_s=chosen.get("retention_s"),
            concurrency=chosen.get("concurrency"),
            final_errors=chosen.get("final_errors", ()),
            description=(task.func.__doc__ or "").strip(),
            parameters=_CALL,
        )
    )


def _handler(task: Any) -> Handler:
    """Return what calls the function of a task, and tells Django's signals of its begin and end."""
    function = task.func

    def begun(call: CallPayload, ctx: Context) -> tuple[Any, list[Any], dict[str, Any]]:
        args, kwargs = call.get("args", []), call.get("kwargs", {})
        result = running_result(task, ctx, args, kwargs)
        context = [TaskContext(task_result=result)] if task.takes_context else []
        return result, [*context, *args], kwargs

    async def call_async(call: CallPayload, ctx: Context) -> Any:
        result, args, kwargs = begun(call, ctx)
        sender = type(task.get_backend())
        try:
            # It may be stopped here already.
            await task_started.asend_robust(sender, task_result=result)
            value = normalize_json(await function(*args, **kwargs))
        except BaseException as exc:
            if _is_last(ctx, exc, task):
                await task_finished.asend_robust(sender, task_result=failed(result, _told(ctx, exc)))
            raise
        await task_finished.asend_robust(sender, task_result=succeeded(result, value))
        return value

    def call_blocking(call: CallPayload, ctx: BlockingContext) -> Any:
        result, args, kwargs = begun(call, ctx)
        sender = type(task.get_backend())
        try:
            task_started.send_robust(sender, task_result=result)
            value = normalize_json(function(*args, **kwargs))
        except BaseException as exc:
            if _is_last(ctx, exc, task):
                task_finished.send_robust(sender, task_result=failed(result, _told(ctx, exc)))
            raise
        task_finished.send_robust(sender, task_result=succeeded(result, value))
        return value

    is_async = inspect.iscoroutinefunction(function)
    handler: Any = functools.wraps(function)(call_async if is_async else call_blocking)
    handler.django_function = function
    return cast(Handler, handler)


def _is_last(ctx: Context, exc: BaseException, task: Any) -> bool:
    """Whether no attempt follows the one that has raised `exc`."""
    if ctx.stop_reason is not None:
        # One that is lost, or given back, goes on elsewhere.
        return ctx.stop_reason == "cancel" or (ctx.stop_reason == "timeout" and ctx.attempt > ctx.max_retries)
    if not isinstance(exc, Exception | SystemExit | KeyboardInterrupt) or rate_limited_by(exc) is not None:
        return False
    final = getattr(task.func, _OPTIONS, {}).get("final_errors", ())
    return ctx.attempt > ctx.max_retries or isinstance(exc, (SkipRetry, *final))


def _told(ctx: Context, exc: BaseException) -> BaseException:
    """Return what an attempt has ended with, as receivers are told: why it was stopped, if it was."""
    if ctx.stop_reason is None:
        return exc
    stopped = TaskCancelledError(ctx.task_id, "") if ctx.stop_reason == "cancel" else TaskTimeoutError("the time is up")
    return stopped.with_traceback(exc.__traceback__)
