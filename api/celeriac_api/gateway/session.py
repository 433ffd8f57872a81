"""The messages of a remote worker, and what each of them does."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from celeriac import json_text
from celeriac.durations import seconds_of
from celeriac.errors import JsonError, RateLimited, StoreUnavailableError
from celeriac.execution.attempt_state import StopReason
from celeriac.execution.log_lines import kept_line
from celeriac.model import ATTEMPT_FAILED, Failure, LogLevel, LogLine, Progress, percentage_of
from celeriac.moments import duration_ms
from celeriac.signals.links import SIGNAL_NAME
from celeriac.signals.schemas import schema_problem
from celeriac.store.suspension import WaitForSignal
from celeriac.store.task_store import MAX_TEXT
from celeriac.tasks.types.waiting import MAX_TITLE
from celeriac_api.gateway import messages
from celeriac_api.gateway.connection import RemoteAttempt, WorkerConnection, describe
from celeriac_api.gateway.gateway import Gateway
from celeriac_api.gateway.messages import MalformedMessageError, UnfitValueError

log = logging.getLogger(__name__)

#: How many models one worker may announce, and the longest name of a model (characters).
_MAX_MODELS: Final = 200
_MAX_NAME: Final = 200
#: How many reports, log lines and parts of results of one worker may be on their way to the store.
_MOST_REPORTS: Final = 200
_LEVELS: Final = tuple(level.value for level in LogLevel)
#: The longest code of an error (characters).
_MAX_CODE: Final = 64

#: Why messages of a worker about a task are ignored.
_TAKEN_BACK: Final[dict[StopReason | None, str]] = {
    StopReason.CANCEL: "was cancelled",
    StopReason.TIMEOUT: "has timed out",
}

_KNOWN: Final = ", ".join(messages.FIELDS)


class WorkerSession:
    """Handles the messages of one worker. No message ends the connection."""

    def __init__(self, gateway: Gateway, connection: WorkerConnection, *, max_result_bytes: int) -> None:
        self._gateway = gateway
        self._connection = connection
        self._max_result_bytes = max_result_bytes
        self._in_flight = 0
        self._last_sent: asyncio.Future[str] | None = None
        self._handlers = {
            "ready": self._ready,
            "task_complete": self._complete,
            "task_error": self._error,
            "task_wait": self._wait,
            "progress": self._progress,
            "delta": self._delta,
            "log": self._log,
            "ping": self._ping,
            "pong": lambda _: None,
            "drain": self._drain,
        }

    def heard(self, text: str | None) -> None:
        """Handle a message; None stands for one that was not a text."""
        connection = self._connection
        connection.heard_at = asyncio.get_running_loop().time()
        if text is None:
            connection.post(messages.error("messages are JSON text, not binary"))
            return
        try:
            try:
                message = messages.read_message(text)
            except UnfitValueError as exc:
                self._answer_unfit(exc)
                return
            handler = self._handlers.get(message["type"])
            if handler is None:
                raise MalformedMessageError(
                    f"there is no message type {describe(message['type'])}; use one of: {_KNOWN}"
                )
            handler(message)
        except MalformedMessageError as exc:
            connection.post(messages.error(str(exc)))
        except Exception:
            log.exception("a message of remote worker %s could not be handled", connection.worker_id)
            connection.post(messages.error("the server failed to handle this message"))

    def _answer_unfit(self, exc: UnfitValueError) -> None:
        """Refuse a message for a value in it. What it ends has ended all the same: nothing else will end it."""
        message = exc.message
        if message.get("type") == "ready":
            # The value is in a name, and those are for people.
            self._ready(message)
            return
        task_id = message.get("taskId")
        self._connection.post(messages.error(str(exc), task_id if isinstance(task_id, str) else None))
        if message.get("type") == "task_error":
            self._error(message)
        elif message.get("type") == "task_wait":
            self._wait({**message, "signal": None})
        elif message.get("type") == "task_complete" and (attempt := self._answered(message)) is not None:
            text = f"the result cannot be stored as JSON: {exc}"
            self._gateway.attempts.fail(attempt, Failure("bad_result", text[:MAX_TEXT], retryable=False))

    def heard_directly(self, text: str) -> bool:
        """Handle a message; returns whether there is room for the next one."""
        self.heard(text)
        return self._in_flight < _MOST_REPORTS and self._connection.has_room

    async def room(self) -> None:
        """Wait while the store has not answered too many reports."""
        if self._in_flight >= _MOST_REPORTS and self._last_sent is not None:
            await asyncio.wait([self._last_sent])

    def _ready(self, message: dict[str, Any]) -> None:
        connection = self._connection
        concurrency = message.get("concurrency", connection.concurrency)
        if type(concurrency) is not int or concurrency < 1:
            raise MalformedMessageError("concurrency must be a whole number above 0")
        models = message.get("models")
        if models is not None:
            if not isinstance(models, list) or not all(isinstance(name, str) and name for name in models):
                raise MalformedMessageError("models must be a list of names")
            connection.models = tuple(dict.fromkeys(_printable(name, _MAX_NAME) for name in models[:_MAX_MODELS]))
        name = message.get("name")
        if name is not None:
            connection.name = _printable(name if isinstance(name, str) else describe(name), _MAX_NAME)
        connection.concurrency = min(concurrency, self._gateway.settings.max_concurrency)
        connection.ready = True
        connection.draining = False
        self._gateway.changed(connection)

    def _drain(self, _: dict[str, Any]) -> None:
        self._connection.draining = True
        self._gateway.changed(self._connection)

    def _ping(self, _: dict[str, Any]) -> None:
        self._connection.post(messages.PONG)

    def _complete(self, message: dict[str, Any]) -> None:
        attempt = self._answered(message)
        if attempt is None:
            return
        try:
            result = json_text.write(message.get("result"), "result")
        except JsonError as exc:
            self._gateway.attempts.fail(
                attempt, Failure("bad_result", f"the result cannot be stored as JSON: {exc}", retryable=False)
            )
            return
        if len(result) > self._max_result_bytes:
            text = f"the result is {len(result)} bytes, above the limit of {self._max_result_bytes}"
            self._gateway.attempts.fail(attempt, Failure("result_too_large", text, retryable=False))
            self._connection.post(messages.error(text, attempt.claim.task_id))
            return
        self._gateway.attempts.complete(attempt, result)

    def _error(self, message: dict[str, Any]) -> None:
        attempt = self._answered(message)
        if attempt is None:
            return
        error = message.get("error")
        text = (
            error
            if isinstance(error, str)
            else "the worker reported an error"
            if error is None
            else json_text.encode(error).decode()
        )
        code = message.get("code")
        if code == RateLimited.code and message.get("retry_after_s") is not None:
            try:
                retry_after_s = seconds_of(message["retry_after_s"])
            except ValueError as exc:
                said = f"the attempt counts as failed, because its retry_after_s cannot be used: {exc}"
                self._connection.post(messages.error(said, attempt.claim.task_id))
            else:
                self._gateway.attempts.rate_limited(attempt, text[:MAX_TEXT], retry_after_s)
                return
        retryable = message.get("retryable", True)
        failure = Failure(
            _printable(code, _MAX_CODE) if isinstance(code, str) and code else "task_error",
            text[:MAX_TEXT],
            retryable=retryable is not False,
        )
        self._gateway.attempts.fail(attempt, failure)

    def _wait(self, message: dict[str, Any]) -> None:
        attempt = self._answered(message)
        if attempt is None:
            return
        try:
            self._gateway.attempts.suspend(attempt, _wait_in(message))
        except MalformedMessageError as exc:
            # The worker is free by now: nothing else would end the attempt.
            self._gateway.attempts.fail(attempt, Failure("invalid_wait", str(exc), retryable=False))
            self._connection.post(messages.error(str(exc), attempt.claim.task_id))

    def _progress(self, message: dict[str, Any]) -> None:
        attempt = self._attempt(message)
        if attempt is None:
            return
        percentage = message.get("percentage", 0)
        if isinstance(percentage, bool) or not isinstance(percentage, int | float):
            raise MalformedMessageError("percentage must be a number from 0 to 100")
        attempt.reports += 1
        progress = Progress(
            percentage_of(percentage),
            _text_of(message, "stage"),
            _text_of(message, "message"),
            time.time_ns() // 1_000_000,
        )
        self._sent(attempt, self._gateway.store.report(attempt.claim, attempt.reports, progress))

    def _delta(self, message: dict[str, Any]) -> None:
        attempt = self._attempt(message)
        if attempt is None:
            return
        content = message.get("content")
        if not isinstance(content, str):
            raise MalformedMessageError("content must be a text")
        attempt.deltas += 1
        self._sent(attempt, self._gateway.remote.delta(attempt.claim, attempt.deltas, content))

    def _log(self, message: dict[str, Any]) -> None:
        attempt = self._attempt(message)
        if attempt is None:
            return
        level, text, data = message.get("level", "info"), message.get("message"), message.get("data")
        if level not in _LEVELS:
            raise MalformedMessageError(f"level is one of {', '.join(_LEVELS)}")
        if not isinstance(text, str):
            raise MalformedMessageError("message is a text")
        if not isinstance(data, dict | None):
            raise MalformedMessageError("data is an object")
        attempt.told = attempt.told or text == ATTEMPT_FAILED
        line = kept_line(LogLine(level, text, data or {}, time.time_ns() // 1_000_000), self._gateway.task_log)
        if line is not None:
            attempt.lines += 1
            self._sent(attempt, self._gateway.store.log(attempt.claim, attempt.lines, line))

    def _sent(self, attempt: RemoteAttempt, sent: asyncio.Future[str]) -> None:
        self._in_flight += 1
        self._last_sent = sent
        sent.add_done_callback(lambda answer: self._reported(attempt, answer))

    def _reported(self, attempt: RemoteAttempt, answer: asyncio.Future[str]) -> None:
        self._in_flight -= 1
        if answer.cancelled():
            return
        if (error := answer.exception()) is not None:
            if not isinstance(error, StoreUnavailableError):
                log.error("a report of remote worker %s failed", self._connection.worker_id, exc_info=error)
            return
        if answer.result() == "cancel":
            attempt.stop(StopReason.CANCEL)
        elif answer.result() == "full":
            limit = self._gateway.settings.max_delta_bytes
            text = f"partial results are above the limit of {limit} bytes: send the rest with task_complete"
            self._connection.post(messages.error(text, attempt.claim.task_id))

    def _answered(self, message: dict[str, Any]) -> RemoteAttempt | None:
        """Return the attempt that an answer ends. The worker is free afterwards, whatever happens to the answer."""
        attempt = self._attempt(message)
        if attempt is None:
            held = self._connection.running.get(str(message.get("taskId")))
            if held is not None:
                self._gateway.let_go(held)
            return None
        self._gateway.let_go(attempt)
        return attempt

    def _attempt(self, message: dict[str, Any]) -> RemoteAttempt | None:
        task_id = message.get("taskId")
        if not isinstance(task_id, str):
            raise MalformedMessageError(f"a {message['type']} needs the taskId")
        attempt = self._connection.running.get(task_id)
        if attempt is None:
            self._connection.post(messages.error(f"task {describe(task_id)} is not yours", task_id[:200]))
            return None
        if attempt.state.end is not None:
            why = _TAKEN_BACK.get(attempt.state.reason, "is no longer yours")
            self._connection.post(messages.error(f"task {task_id} {why}: this message is ignored", task_id))
            return None
        return attempt


def _wait_in(message: dict[str, Any]) -> WaitForSignal:
    """Return what a `task_wait` waits for; raises `MalformedMessageError`."""
    signal, timeout_s = message.get("signal"), message.get("timeout_s")
    title, schema = message.get("title"), message.get("schema")
    if not isinstance(signal, str) or SIGNAL_NAME.fullmatch(signal) is None:
        raise MalformedMessageError("signal is a name of up to 128 letters, digits and _ . : -")
    try:
        timeout_ms = None if timeout_s is None else duration_ms(timeout_s, what="timeout_s")
    except ValueError as exc:
        raise MalformedMessageError(str(exc)) from None
    if title is not None and not (isinstance(title, str) and len(title) <= MAX_TITLE):
        raise MalformedMessageError(f"title is a text of at most {MAX_TITLE} characters")
    if schema is not None and (problem := schema_problem(schema)):
        raise MalformedMessageError(f"schema {problem}")
    written = None if schema is None else json_text.write(schema)
    return WaitForSignal(signal, wait=signal, timeout_ms=timeout_ms, title=title, schema=written)


def _text_of(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _printable(text: str, most: int) -> str:
    """Return the printable characters of a name, at most `most` of them. A much longer name is cut first."""
    return "".join(character for character in text[: 4 * most] if character.isprintable())[:most]
