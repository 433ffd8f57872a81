"""What outlives a run of a handler: its steps, sleeps and children, and the signals that it waits for.

A handler that waits is suspended: it ends with `AttemptSuspended`, and when all that it waits for is there it runs
again from the top, as the same attempt. What it did before is kept in the store under a name, and is not done again.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar, get_type_hints
from uuid import UUID, uuid5

from pydantic import TypeAdapter, ValidationError

from celeriac import json_text
from celeriac.errors import (
    ChildFailedError,
    InvalidSubmissionError,
    JsonError,
    RateLimited,
    RetryAfter,
    SignalTimeoutError,
    StepLimitError,
    TaskError,
    Violation,
)
from celeriac.handlers.results import encode_result
from celeriac.model import (
    Claim,
    Kept,
    Noted,
    Parent,
    Status,
    Wait,
    WaitForSignal,
    WaitForTask,
    WaitUntil,
    ms_from_utc,
)
from celeriac.settings import StepSettings, parse_duration_s
from celeriac.threads.os_threads import wait_for

T = TypeVar("T")

#: A duration: seconds, a text such as `"3d"`, or a `timedelta`.
Span = float | str | timedelta

#: Stands for a default that was not given.
NOTHING: Final[Any] = object()
#: Longest name of a step or a child (characters).
_LONGEST_NAME: Final = 200
#: The ids of children derive from this, the id of their parent, and their name.
_CHILDREN: Final = UUID("5f0c6f0e-6d5b-5ac6-9a44-1e2e3b2f8d0b")
#: The pause before a step is tried again (seconds): it doubles each time, up to the second number.
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
#: Records of children that are read at once.
_READ_AT_ONCE: Final = 16
#: How often a plain function that waits for the store looks whether it was stopped (seconds).
_LOOK_S: Final = 0.2


class AttemptSuspended(BaseException):
    """The attempt ends here and goes on from the top when `waits` are there. Not an error: let it pass.

    `except Exception` does not catch it, and `finally` blocks run.
    """

    def __init__(self, waits: Sequence[Wait]) -> None:
        self.waits = tuple(waits)
        super().__init__("the attempt is suspended; code that catches BaseException has to raise this again")


@dataclass(frozen=True, slots=True)
class NewChild:
    """A task that a handler submits as a part of its work. `options` are those of a submission."""

    task_id: str
    #: What it is called in the workflow, after the name of its parent.
    node: str
    type: str
    payload: Any
    options: Mapping[str, Any] = field(default_factory=dict)


class Work(Protocol):
    """Where a running attempt keeps what it does; the worker's attempt has one."""

    #: The loop of the attempt, for plain functions.
    loop: asyncio.AbstractEventLoop
    limits: StepSettings
    suspend_after_s: float

    async def kept(self) -> Kept:
        """Return all that the task keeps."""
        ...

    async def signal(self, name: str) -> Noted | None:
        """Return a signal that the task has received."""
        ...

    async def note(self, name: str, value: str, took_ms: int = 0) -> tuple[Noted, int]:
        """Keep something; see `TaskStore.note_step`."""
        ...

    async def child(self, task_id: str) -> Parent | None:
        """Return the state of a child, None if it has left the store."""
        ...

    async def spawn(self, child: NewChild) -> None:
        """Submit a child, once: nothing happens if there is a task of this id."""
        ...

    def in_thread(self, function: Callable[[], T]) -> Awaitable[T]:
        """Run a plain function in a thread."""
        ...

    async def pause(self, seconds: float) -> None:
        """Sleep in place."""
        ...


@dataclass(frozen=True, slots=True)
class StepCall(Generic[T]):
    """A step as its handler asks for it."""

    label: str
    function: Callable[[], Any]
    retries: int
    #: Reads a result in JSON as the function returns it.
    read: Callable[[str], T]


class Durable:
    """What one attempt does durably. It belongs to the attempt's loop, except for `block`."""

    def __init__(self, claim: Claim, work: Work, warn: Callable[..., object]) -> None:
        self._claim = claim
        self._work = work
        self._warn = warn
        self._has_kept = claim.has_kept
        self._names: dict[str, set[str]] = {}
        self._loading: asyncio.Future[Kept] | None = None
        self._steps: dict[str, Noted] = {}
        self._loaded_at = 0.0
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        #: The steps that run now.
        self._running: set[asyncio.Future[None]] = set()

    def begin_again(self) -> None:
        """Begin another run of the handler, from the top."""
        self._has_kept, self._loading, self._steps, self._names = True, None, {}, {}

    def label(self, kind: str, name: str) -> str:
        """Return the name of the next step, sleep, wait or child of this name: with `#2`, `#3` and so on after it."""
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            message = f"{name!r:.100} is not a name: give a text of 1 to {_LONGEST_NAME} characters"
            raise InvalidSubmissionError([Violation("name", message)])
        given, label, number = self._names.setdefault(kind, set()), name, 1
        while label in given:
            number += 1
            label = f"{name}#{number}"
        given.add(label)
        return label

    def block(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the attempt's loop, and wait for it in the thread of a plain function."""
        future = asyncio.run_coroutine_threadsafe(work, self._work.loop)
        try:
            while not wait_for(future, _LOOK_S):
                pass
        finally:
            future.cancel()
        return future.result()

    async def settled(self) -> None:
        """Wait until the steps that run now have ended, in an attempt that is suspended."""
        while self._running:
            await asyncio.wait(self._running)

    # --- steps

    def step_call(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int
    ) -> StepCall[Any]:
        """Return the next step of this name."""
        if not callable(function):
            raise TypeError(f"the step {name!r} needs a function, not {function!r:.100}")
        return StepCall(
            self.label("step", name), lambda: function(*args, **kwargs), retries, self._reader(name, function)
        )

    async def step(self, call: StepCall[T], function: Callable[..., Any]) -> T:
        """Return the result of a step; runs it if it has not been kept."""
        if found := await self.found(call):
            return found[0]
        with self._step_runs():
            began, tries = time.monotonic(), 0
            while True:
                try:
                    if inspect.iscoroutinefunction(function):
                        value = await call.function()
                    else:
                        value = await self._work.in_thread(call.function)
                        if inspect.isawaitable(value):
                            value = await value
                    break
                except Exception as exc:
                    tries += 1
                    await self.pause_before_retry(call, tries, exc)
            return await self.keep(call, value, began)

    def step_in_thread(self, call: StepCall[T]) -> T:
        """Do the same as `step`, in the thread of a plain function."""
        if found := self.block(self.found(call)):
            return found[0]
        began, tries = time.monotonic(), 0
        while True:
            try:
                value = call.function()
                if inspect.iscoroutine(value):
                    value = self.block(value)
                break
            except Exception as exc:
                tries += 1
                self.block(self.pause_before_retry(call, tries, exc))
        return self.block(self.keep(call, value, began))

    async def found(self, call: StepCall[T]) -> tuple[T] | None:
        """Return the result of a step that was kept."""
        noted = (await self._kept()).get(f"step:{call.label}")
        return None if noted is None else (call.read(noted.value),)

    async def pause_before_retry(self, call: StepCall[Any], tries: int, error: Exception) -> None:
        """Wait before a step is tried again; raises its error if it may not be."""
        if (
            tries > call.retries
            or isinstance(error, RateLimited)
            or (isinstance(error, TaskError) and not error.retryable)
        ):
            raise error
        pause_s = min(_PAUSE_S * 2.0 ** (tries - 1), _LONGEST_PAUSE_S)
        if isinstance(error, RetryAfter):
            pause_s = error.delay_s
        self._warn("a step failed and is tried again", step=call.label, error=repr(error), in_s=pause_s)
        await self._work.pause(pause_s)

    async def keep(self, call: StepCall[T], value: Any, began: float) -> T:
        """Keep the result of a step, and return it as later runs get it."""
        try:
            text = encode_result(value).decode()
        except JsonError as exc:
            message = f"the result of the step {call.label!r} cannot be written as JSON: {exc}"
            raise StepLimitError(message, code="bad_result") from exc
        most = self._work.limits.max_result_bytes
        if len(text.encode()) > most:
            raise StepLimitError(
                f"the result of the step {call.label!r} is above {most} bytes (steps.max_result_bytes)"
            )
        took_ms = max(0, round((time.monotonic() - began) * 1000))
        noted = await self._note(f"step:{call.label}", text, took_ms)
        return call.read(noted.value)

    def _reader(self, name: str, function: Callable[..., Any]) -> Callable[[str], Any]:
        adapter = _result_type(function)

        def read(text: str) -> Any:
            if adapter is not None:
                try:
                    return adapter.validate_json(text)
                except ValidationError:
                    self._warn("the result of a step is not what its function says that it returns", step=name)
            return json_text.read(text)

        return read

    @contextmanager
    def _step_runs(self) -> Iterator[None]:
        done: asyncio.Future[None] = self._work.loop.create_future()
        self._running.add(done)
        try:
            yield
        finally:
            self._running.discard(done)
            done.set_result(None)

    # --- time

    async def sleep(self, label: str, duration: Span) -> None:
        """Sleep for a time, in place if it is short."""
        await self._sleep(label, "", ms_of(duration, "a sleep"))

    async def sleep_until(self, label: str, moment: datetime) -> None:
        """Sleep until a moment."""
        until_ms = ms_from_utc(moment)
        await self._sleep(label, str(until_ms), until_ms - time.time_ns() // 1_000_000)

    async def _sleep(self, label: str, until: str, for_ms: int) -> None:
        most_s = self._work.limits.max_sleep
        noted = (await self._kept()).get(f"sleep:{label}")
        if noted is not None:
            now_ms = self._now_ms()
        elif for_ms > most_s * 1000:
            raise StepLimitError(f"a sleep may take at most {most_s:.10g} s (steps.max_sleep)")
        else:
            noted, now_ms = await self._work.note(f"sleep:{label}", until, for_ms)
            self._steps[f"sleep:{label}"] = noted
        left_s = (int(noted.value) - now_ms) / 1000
        if left_s <= 0:
            return
        if left_s >= self._work.suspend_after_s:
            raise AttemptSuspended([WaitUntil(label, int(noted.value))])
        await self._work.pause(left_s)

    # --- signals

    async def wait_for(
        self,
        label: str,
        name: str,
        *,
        schema: Any,
        timeout: Span | None,
        title: str | None,
        users: Sequence[str],
        default: Any,
    ) -> Any:
        """Return the value of a signal; suspends the attempt if it is not there."""
        steps = await self._kept()
        if f"wait:{label}" in steps:
            if default is NOTHING:
                raise SignalTimeoutError(self._claim.task_id, name)
            return default
        if isinstance(schema, Mapping):
            message = "is a JSON schema: give the type of the value instead, such as a Pydantic model or bool"
            raise InvalidSubmissionError([Violation("schema", message)])
        adapter = None if schema is None else adapter_of(schema)
        noted, dropped = await self._work.signal(name), None
        if noted is not None:
            try:
                return json_text.read(noted.value) if adapter is None else adapter.validate_json(noted.value)
            except ValidationError as exc:
                self._warn("a signal does not fit the schema and is dropped", signal=name, error=str(exc))
                dropped = noted.number
        raise AttemptSuspended(
            [
                WaitForSignal(
                    name,
                    label,
                    timeout_ms=None if timeout is None else ms_of(timeout, "a timeout"),
                    title=title,
                    schema=None if adapter is None else self._schema_text(name, adapter),
                    users=[str(user) for user in users],
                    dropped=dropped,
                )
            ]
        )

    def _schema_text(self, name: str, adapter: TypeAdapter[Any]) -> str:
        text = json_text.write(adapter.json_schema())
        most = self._work.limits.max_signal_bytes
        if len(text.encode()) > most:
            raise StepLimitError(f"the schema of the signal {name!r} is above {most} bytes (steps.max_signal_bytes)")
        return text

    # --- children

    async def spawn(self, label: str, type_name: str, payload: Any, options: Mapping[str, Any]) -> str:
        """Submit a child, once in all runs and attempts; returns its id."""
        return (await self._spawn(label, type_name, payload, options))[0]

    async def _spawn(self, label: str, type_name: str, payload: Any, options: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the id of a child, and whether an earlier run submitted it."""
        name = f"child:{label}"
        noted = (await self._kept()).get(name)
        if noted is not None and noted.number > 0:
            return noted.value, True
        # A child that was forgotten has an id that no other one may get.
        before = self._claim.task_id if noted is None else noted.value
        child_id = str(uuid5(_CHILDREN, f"{before}\n{label}"))
        await self._work.spawn(NewChild(child_id, label, type_name, payload, options))
        return (await self._note(name, child_id)).value, False

    async def call(
        self, label: str, type_name: str, payload: Any, options: Mapping[str, Any], read: Callable[[Any], Any]
    ) -> Any:
        """Return the result of a child; suspends the attempt until it has ended."""
        child_id, known = await self._spawn(label, type_name, payload, options)
        if not known:
            # The store looks whether it has ended.
            raise AttemptSuspended([WaitForTask(child_id)])
        return read(await self.result_of(child_id))

    async def result_of(self, child_id: str) -> Any:
        """Return the result of a child; raises `ChildFailedError`, and suspends the attempt until it has ended."""
        async with self._reading:
            child = await self._work.child(child_id)
        if child is None:
            raise ChildFailedError(child_id, "task_not_found", "its record has left the store")
        if not child.status.final:
            raise AttemptSuspended([WaitForTask(child_id)])
        if child.status is Status.COMPLETED:
            return child.result
        if child.error is None:
            raise ChildFailedError(child_id, child.status.wire, child.status.wire)
        raise ChildFailedError(child_id, child.error.code, child.error.message)

    async def gather(self, works: Sequence[Awaitable[Any] | str]) -> list[Any]:
        """Return the results of all; suspends the attempt once, until all that they wait for is there.

        An error of one is raised before that. A text is the id of a child.
        """
        running = [self.result_of(work) if isinstance(work, str) else work for work in works]
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        waits: list[Wait] = []
        for outcome in outcomes:
            if isinstance(outcome, AttemptSuspended):
                waits += outcome.waits
            elif isinstance(outcome, BaseException):
                raise outcome
        if waits:
            raise AttemptSuspended(waits)
        return outcomes

    # --- parts

    async def _kept(self) -> dict[str, Noted]:
        """Return what the task keeps, by kind and name; it is read once in a run."""
        if not self._has_kept:
            return self._steps
        if self._loading is None:
            self._loading = asyncio.ensure_future(self._work.kept())
        kept = await asyncio.shield(self._loading)
        if self._has_kept:
            self._has_kept = False
            self._steps = {**kept.steps, **self._steps}
            self._loaded_ms, self._loaded_at = kept.now_ms, time.monotonic()
        return self._steps

    def _now_ms(self) -> int:
        """Return the store's time by what was read."""
        return self._loaded_ms + math.floor((time.monotonic() - self._loaded_at) * 1000)

    async def _note(self, name: str, value: str, took_ms: int = 0) -> Noted:
        noted, _ = await self._work.note(name, value, took_ms)
        self._steps[name] = noted
        return noted


def suspended_by(error: BaseException | None) -> tuple[Wait, ...] | None:
    """Return what an attempt waits for whose handler ended with this; None if the handler was not suspended.

    In a group of exceptions each one has to be a suspension.
    """
    if isinstance(error, AttemptSuspended):
        return error.waits
    if isinstance(error, BaseExceptionGroup):
        found = [suspended_by(one) for one in error.exceptions]
        return None if None in found else tuple(wait for waits in found for wait in waits or ())
    return None


def ms_of(duration: Span, what: str) -> int:
    """Return a duration in milliseconds; raises `InvalidSubmissionError`."""
    try:
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else parse_duration_s(duration)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
            raise ValueError(f"{duration!r:.100} is not a duration: write seconds, or 30s, 10m, 1h, 3d")
        if seconds < 0:
            raise ValueError(f"{what} cannot take {seconds:g} s: give a duration that is not negative")
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("duration", str(exc))]) from None
    return round(seconds * 1000)


@lru_cache(maxsize=512)
def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Return what validates values of a type."""
    return TypeAdapter(kind)


@lru_cache(maxsize=512)
def _result_type(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Return the type that a function says that it returns; None if it does not say, or Pydantic does not know it."""
    try:
        hint = get_type_hints(function, include_extras=True).get("return", Any)
        return None if hint is Any else TypeAdapter(hint)
    except Exception:  # a hint that cannot be resolved, or that is not a type of values
        return None
