"""What a running task knows of itself, can say and can do durably: the second argument of a handler."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast, overload

from celeriac.handlers.stopping import Stoppable
from celeriac.model import Claim, LogLine, Parent

if TYPE_CHECKING:
    from celeriac.handlers.durable import Durable, Work

T = TypeVar("T")
D = TypeVar("D")

#: A duration: seconds, a text such as `"3d"`, or a `timedelta`.
Span = float | str | timedelta
#: Stands for a default that was not given.
_NOTHING: Final[Any] = object()


class TypeOfTasks(Protocol):
    """A type of tasks, as the decorator `@task` returns it."""

    @property
    def name(self) -> str:
        """The name by which tasks of the type are submitted."""
        ...


class AttemptSink(Protocol):
    """Where a context's reports and lines go; the worker's attempt is one."""

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> Awaitable[None]:
        """Take one report, in order, from any thread."""
        ...

    def log(self, line: LogLine) -> None:
        """Take one line of the task's log, in order, from any thread; never waits."""
        ...

    def signal_url(self, signal: str, valid_s: float) -> str:
        """Return a link that answers a signal of the task for so many seconds; never waits."""
        ...


class Context(Stoppable):
    """A running attempt, as its handler sees it.

    Works alike in `async def` handlers and in plain functions (which run in a thread). `stop_reason` is `cancel`
    (by a caller), `timeout`, `lost` (another worker took over), `shutdown`, or None.
    """

    def __init__(self, claim: Claim, sink: AttemptSink, work: Work | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._claim = claim
        self._work = work
        #: Set by a handler whose result is a file: written to the record, as `result_file_path`, with the task's end.
        self.result_file_path: str = ""
        #: The tasks that this one depends on, by id: `status`, `result` and `error` of each. In a workflow, the names
        #: of their nodes are found, too.
        self.parents: Mapping[str, Parent] = {}

    @cached_property
    def log(self) -> Any:
        """A structlog logger that knows the task: `ctx.log.info("page written", page=3)`.

        Lines go to the worker's log, and from the level `task_log.level` on to the task's own, where all who may see
        the task can read them. The call does not wait; lines that come faster than the store takes them are left out.
        """
        # Imported when it is used: a quarter of a second that the child processes of file processors need not spend.
        from celeriac.handlers.task_log import task_logger

        return task_logger(self._claim, self._sink.log)

    @property
    def task_id(self) -> str:
        """The task's id; the same in every attempt."""
        return self._claim.task_id

    @property
    def type(self) -> str:
        """The name of the task type."""
        return self._claim.type

    @property
    def group(self) -> str:
        """The worker group that runs it."""
        return self._claim.group

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        return self._claim.attempt

    @property
    def max_retries(self) -> int:
        """How many attempts may follow the first; a retry by hand grants more than the submission did."""
        return self._claim.attempts_allowed - 1

    @property
    def timeout_s(self) -> float | None:
        """The time limit that the task's submission set for each attempt (seconds), None if it set none."""
        return None if self._claim.timeout_ms is None else self._claim.timeout_ms / 1000

    @property
    def user_id(self) -> str | None:
        """The user on whose behalf it runs."""
        return self._claim.user_id

    @property
    def key(self) -> str | None:
        """The customer, tenant or resource that it is for, None if it has no key."""
        return self._claim.key

    @property
    def metadata(self) -> dict[str, Any]:
        """What the submitter attached."""
        return self._claim.metadata

    @property
    def original_file_path(self) -> str | None:
        """Where the file is that was handed over with the task, None if none was."""
        return self._claim.original_file_path

    @property
    def extra(self) -> dict[str, str]:
        """The same, by its name in the record, if there is a file."""
        path = self.original_file_path
        return {} if path is None else {"original_file_path": path}

    def progress(
        self, percentage: float, stage: str = "", message: str = "", *, timestamp_ms: int | None = None
    ) -> Awaitable[None]:
        """Report progress: `percentage` 0 to 100, a stage and a message for people.

        Reports are stored in the order of the calls, all of them before the task's end. Awaiting
        the answer is optional; it waits until the report is stored, and so slows a handler that
        reports faster than the store takes it. In a plain function the call itself waits when too
        many reports are on their way.
        """
        return self._sink.report(percentage, stage, message, timestamp_ms)

    def signal_link(self, name: str, *, valid: float | str | timedelta = "3d") -> str:
        """Return a URL that shows a person what `wait_for(name)` asks, and takes the answer once, without a sign-in.

        The link is the permission, for as long as it is `valid`: seconds, a text such as `"3d"`, or a `timedelta`.
        Send it before the task waits for the signal. It begins with the setting `public_url`. Raises `ValueError` for a
        name that a signal cannot have, and for another time than above zero and at most ten years.
        """
        # Imported here: few handlers make links, and the child processes of file processors need not load this.
        from celeriac.moments import duration_ms
        from celeriac.settings import parse_duration_s
        from celeriac.signals.links import check_signal_name

        check_signal_name(name)
        seconds = valid.total_seconds() if isinstance(valid, timedelta) else parse_duration_s(valid)
        return self._sink.signal_url(name, duration_ms(seconds, what="valid") / 1000)

    # --- what outlives a run of the handler

    @cached_property
    def durable(self) -> Durable:
        """What keeps the steps, sleeps and children of the task; the methods below use it."""
        # Imported when it is used, as the logger: it needs Pydantic.
        from celeriac.handlers.durable import Durable

        if self._work is None:
            raise RuntimeError("steps and waits need a worker: this context belongs to none")
        return Durable(self._claim, self._work, self.log.warning)

    @overload
    def step(
        self, name: str, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, retries: int = 0, **kwargs: Any
    ) -> Awaitable[T]: ...

    @overload
    def step(
        self, name: str, function: Callable[..., T], *args: Any, retries: int = 0, **kwargs: Any
    ) -> Awaitable[T]: ...

    def step(
        self, name: str, function: Callable[..., Any], *args: Any, retries: int = 0, **kwargs: Any
    ) -> Awaitable[Any]:
        """Run `function(*args, **kwargs)` once: `await ctx.step("charge", charge, order)`.

        The result is stored as JSON, and every later run and attempt of the handler gets the stored one, read as the
        function's return annotation says. A step that fails is tried up to `retries` times more, with growing pauses.
        A plain function runs in a thread. A repeated name becomes `charge#2`, `charge#3`, in the order of the calls.
        Raises `StepLimitError` for too many steps or too large results (settings `steps`).
        """
        call = self.durable.step_call(name, function, args, kwargs, retries)
        return self.durable.step(call, function)

    def sleep(self, duration: Span) -> Awaitable[None]:
        """Sleep: `await ctx.sleep("3d")`. Only a sleep shorter than `worker.suspend_after` holds the worker's slot."""
        return self.durable.sleep(self.durable.label("sleep", "sleep"), duration)

    def sleep_until(self, moment: datetime) -> Awaitable[None]:
        """Sleep until a moment (with a time zone), as `sleep` does."""
        return self.durable.sleep_until(self.durable.label("sleep", "sleep"), moment)

    @overload
    def wait_for(
        self,
        signal: str,
        *,
        schema: builtins.type[T],
        timeout: Span | None = None,
        title: str | None = None,
        users: Sequence[str] = (),
    ) -> Awaitable[T]: ...

    @overload
    def wait_for(
        self,
        signal: str,
        *,
        schema: builtins.type[T],
        timeout: Span | None = None,
        title: str | None = None,
        users: Sequence[str] = (),
        default: D,
    ) -> Awaitable[T | D]: ...

    @overload
    def wait_for(
        self,
        signal: str,
        *,
        schema: None = None,
        timeout: Span | None = None,
        title: str | None = None,
        users: Sequence[str] = (),
        default: Any = ...,
    ) -> Awaitable[Any]: ...

    def wait_for(
        self,
        signal: str,
        *,
        schema: Any = None,
        timeout: Span | None = None,
        title: str | None = None,
        users: Sequence[str] = (),
        default: Any = _NOTHING,
    ) -> Awaitable[Any]:
        """Wait for a signal: `decision = await ctx.wait_for("approval", schema=Decision, timeout="3d")`.

        If it is not there, the attempt is suspended: the task is WAITING and holds no worker. When the signal comes,
        the handler runs again from the top, as the same attempt. `schema` is a type that the value is read as; others
        see it as a JSON Schema, with `title`. `users` may signal besides the task's owner and admins. When `timeout`
        is over, this returns `default`, or raises `WaitTimeoutError` if there is none.
        """
        return self._wait(signal, schema, timeout, title, users, default)

    def _wait(
        self,
        signal: str,
        schema: Any,
        timeout: Span | None,
        title: str | None,
        users: Sequence[str],
        default: Any,
    ) -> Coroutine[Any, Any, Any]:
        from celeriac.handlers.durable import NOTHING
        from celeriac.signals.links import check_signal_name

        check_signal_name(signal)
        return self.durable.wait_for(
            self.durable.label("wait", signal),
            signal,
            schema=schema,
            timeout=timeout,
            title=title,
            users=users,
            default=NOTHING if default is _NOTHING else default,
        )

    def spawn(
        self, type: str | TypeOfTasks, payload: Any = None, *, name: str | None = None, **options: Any
    ) -> Awaitable[str]:
        """Submit a task as a part of this one's work, and return its id: `child_id = await ctx.spawn("resize", {…})`.

        It is submitted once, whatever becomes of this attempt: its id derives from this task's id and `name`, which is
        the name of its type by default (a repeated one becomes `resize#2`). It belongs to the workflow of this task.
        `options` are those of a submission.
        """
        return self._spawn(type, payload, name, options)

    def _spawn(
        self, type: str | TypeOfTasks, payload: Any, name: str | None, options: Mapping[str, Any]
    ) -> Coroutine[Any, Any, str]:
        type_name = _name_of(type)
        label = self.durable.label("child", name or type_name)
        return self.durable.spawn(label, type_name, payload, options)

    def call(
        self, type: str | TypeOfTasks, payload: Any = None, *, name: str | None = None, **options: Any
    ) -> Awaitable[Any]:
        """Submit a task as `spawn` does, wait for its end without a worker, and return its result.

        Raises `TaskFailedError` if it failed or was cancelled.
        """
        return self._call(type, payload, name, options)

    def _call(
        self, type: str | TypeOfTasks, payload: Any, name: str | None, options: Mapping[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        type_name = _name_of(type)
        label = self.durable.label("child", name or type_name)
        return self.durable.call(label, type_name, payload, options, _reader_of(type))

    def gather(self, *works: Awaitable[Any] | str) -> Awaitable[list[Any]]:
        """Return the results of several calls, waits and steps: `await ctx.gather(ctx.call(…), ctx.call(…))`.

        The attempt is suspended once, until all that they wait for is there. A text is the id of a spawned task.
        """
        return self.durable.gather(works)


class BlockingContext(Context):
    """The context of a plain function: what it does durably is called without `await`."""

    def step(  # type: ignore[override]
        self, name: str, function: Callable[..., T], *args: Any, retries: int = 0, **kwargs: Any
    ) -> T:
        """Run `function(*args, **kwargs)` once: `ctx.step("charge", charge, order)`; see `Context.step`."""
        value: Any = self.durable.step_in_thread(self.durable.step_call(name, function, args, kwargs, retries))
        return cast(T, value)

    def sleep(self, duration: Span) -> None:  # type: ignore[override]
        """Sleep; see `Context.sleep`."""
        self.durable.block(self.durable.sleep(self.durable.label("sleep", "sleep"), duration))

    def sleep_until(self, moment: datetime) -> None:  # type: ignore[override]
        """Sleep until a moment; see `Context.sleep_until`."""
        self.durable.block(self.durable.sleep_until(self.durable.label("sleep", "sleep"), moment))

    def wait_for(  # type: ignore[override]
        self,
        signal: str,
        *,
        schema: builtins.type[T] | None = None,
        timeout: Span | None = None,
        title: str | None = None,
        users: Sequence[str] = (),
        default: Any = _NOTHING,
    ) -> T:
        """Return the value of a signal; see `Context.wait_for`."""
        value: Any = self.durable.block(self._wait(signal, schema, timeout, title, users, default))
        return cast(T, value)

    def spawn(  # type: ignore[override]
        self, type: str | TypeOfTasks, payload: Any = None, *, name: str | None = None, **options: Any
    ) -> str:
        """Submit a child, and return its id; see `Context.spawn`."""
        return self.durable.block(self._spawn(type, payload, name, options))

    def call(self, type: str | TypeOfTasks, payload: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """Submit a child, and return its result; see `Context.call`."""
        return self.durable.block(self._call(type, payload, name, options))

    def gather(self, *works: str | Iterable[str]) -> list[Any]:  # type: ignore[override]
        """Return the results of spawned tasks by their ids: `ctx.gather(first, second)`, or a list of ids."""
        ids = [one for work in works for one in ([work] if isinstance(work, str) else work)]
        return self.durable.block(self.durable.gather(ids))


def _name_of(type: str | TypeOfTasks) -> str:
    return type if isinstance(type, str) else type.name


def _reader_of(type: str | TypeOfTasks) -> Callable[[Any], Any]:
    """Return what reads a result as the function of the type returns it."""
    adapter = None if isinstance(type, str) else getattr(type, "result", None)
    read: Callable[[Any], Any] = _as_it_is if adapter is None else adapter.validate_python
    return read


def _as_it_is(value: Any) -> Any:
    return value
