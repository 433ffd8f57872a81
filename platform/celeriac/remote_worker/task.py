"""A task as the handler of a remote worker sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Generator, Mapping, Sequence
from typing import Any, Final, Protocol

from celeriac.handlers.stopping import Stoppable
from celeriac.remote_worker.task_logger import TaskLogger

_NO_DEFAULT: Final[Any] = object()
#: Shortest time between two reports of one task (seconds). The last report is always sent.
_REPORT_INTERVAL_S: Final = 0.05


class Sender(Protocol):
    """Takes the reports and partial results of a task."""

    def send_progress(self, task_id: str, percentage: float, message: str, stage: str) -> None:
        """Queue a report."""
        ...

    def send_log(self, task_id: str, level: str, message: str, data: Mapping[str, Any]) -> None:
        """Queue a line of the task's log. Called on the event loop."""
        ...

    async def send_delta(self, task_id: str, content: str) -> None:
        """Queue a partial result, waiting for room."""
        ...


class WaitsForSignal(BaseException):
    """Ends a run of the handler whose task waits for a signal; `except Exception` does not catch it."""

    def __init__(self, signal: str, timeout_s: float | None, schema: Any, title: str | None) -> None:
        self.signal, self.timeout_s, self.schema, self.title = signal, timeout_s, schema, title
        super().__init__(f"waits for the signal {signal}")


class RemoteTask(Stoppable):
    """A task that a handler runs. Works the same in `async def` handlers and in plain functions, which run in a thread.

    `stop_reason` is the reason that the server gave, `shutdown` if this worker ends, or None.
    """

    def __init__(self, message: Mapping[str, Any], sender: Sender) -> None:
        super().__init__()
        payload = message.get("payload")
        #: The task's id. It is the same in every attempt.
        self.id: str = str(message["taskId"])
        #: The payload as it was submitted: `model`, `messages`, `data`, and any further fields.
        self.payload: dict[str, Any] = payload if isinstance(payload, dict) else {}
        #: 1 for the first attempt.
        self.attempt: int = int(message.get("attempt") or 1)
        #: How long this task may take, in milliseconds; None if that is not limited.
        self.timeout_ms: int | None = message.get("timeoutMs")
        #: The user for whom the task runs.
        self.user_id: str | None = message.get("userId")
        #: The tasks that this one depends on, by id: `{"status", "result", "error"}` of each.
        self.parents: dict[str, dict[str, Any]] = message.get("parents") or {}
        self._signals: dict[str, Any] = message.get("signals") or {}
        self._timed_out: Sequence[str] = message.get("timed_out") or ()
        self._sender = sender
        self._loop = asyncio.get_running_loop()
        #: A logger whose lines also go into the task's log: `task.log.info("page %d", 3)`. `extra=` becomes their data.
        self.log = TaskLogger(self.id, self._say)
        self._latest: tuple[float, str, str] | None = None
        self._reported_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled = False

    @property
    def model(self) -> str:
        """The model that was asked for, else `default`."""
        return str(self.payload.get("model") or "default")

    @property
    def messages(self) -> list[Any]:
        """The chat messages; empty if there are none."""
        return self.payload.get("messages") or []

    @property
    def data(self) -> Any:
        """The work, if it is not a chat."""
        return self.payload.get("data")

    def wait_for(
        self,
        signal: str,
        *,
        schema: Mapping[str, Any] | bool | None = None,
        timeout_s: float | None = None,
        title: str | None = None,
        default: Any = _NO_DEFAULT,
    ) -> Any:
        """Return the value of a signal. Call it without `await`.

        If it is not there, the handler ends here and this worker is free. When the signal comes, or after `timeout_s`
        seconds, the handler runs again from the top, as the same attempt, on any worker of the group. `schema` is a
        JSON schema for the value. After the time, this returns `default`, and raises `TimeoutError` if there is none.
        """
        if signal in self._signals:
            return self._signals[signal]
        if signal in self._timed_out:
            if default is _NO_DEFAULT:
                raise TimeoutError(f"the signal {signal} has not come in time")
            return default
        raise WaitsForSignal(signal, timeout_s, schema, title)

    def progress(self, percentage: float, message: str = "", *, stage: str = "") -> Awaitable[None]:
        """Report progress, 0 to 100, with a message and a stage for people.

        Never waits: if reports come faster than they can be sent, only the newest one is sent. Awaiting is optional.
        """
        self._latest = (min(max(float(percentage), 0.0), 100.0), str(message), str(stage))
        if not self._scheduled:
            self._scheduled = True
            if self._in_loop():
                self._report()
            else:
                self._loop.call_soon_threadsafe(self._report)
        return _DONE

    def delta(self, content: str) -> Awaitable[None]:
        """Send a part of the result; a caller that streams receives it at once.

        Await it: it waits while too many parts are being sent. In a plain function the call itself waits.
        """
        if not isinstance(content, str):
            raise TypeError(f"a delta must be a string, not {type(content).__name__}")
        sending = self._sender.send_delta(self.id, content)
        if self._in_loop():
            return sending
        asyncio.run_coroutine_threadsafe(sending, self._loop).result()
        return _DONE

    def flush(self) -> None:
        """Send the report that still waits, if there is one. The worker calls it before the answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._scheduled = False
        if self._latest is not None:
            latest, self._latest = self._latest, None
            self._reported_at = self._loop.time()
            self._sender.send_progress(self.id, *latest)

    def _say(self, level: str, message: str, data: Mapping[str, Any]) -> None:
        if self._in_loop():
            self._sender.send_log(self.id, level, message, data)
        else:
            # A thread that the worker no longer waits for may outlive the loop.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._sender.send_log, self.id, level, message, data)

    def _report(self) -> None:
        due = self._reported_at + _REPORT_INTERVAL_S
        if due <= self._loop.time():
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_at(due, self.flush)

    def _in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


class _Done:
    """An awaitable that is done. It may be awaited any number of times, or not at all."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE: Final = _Done()
