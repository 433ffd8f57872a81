"""Receives Celery's remote-control commands for all remote workers, in one thread with its own connection."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.utils.nodenames import default_nodename
from kombu.pidbox import Node

log = logging.getLogger(__name__)

#: The pause before a reconnection (seconds).
_PAUSE_S: Final = 2.0
#: How long the thread may take to end (seconds).
_JOIN_S: Final = 3.0

#: Returns a worker's answer to a command (hostname, method, arguments). Raises `KeyError` for an unknown command.
Answer = Callable[[str, str, Mapping[str, Any]], Any]


class ControlMailbox:
    """Answers commands for the workers in `hostnames`, which the owner may replace at any time."""

    def __init__(self, app: Any, *, answer: Answer) -> None:
        self._app = app
        self._answer = answer
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self.hostnames: tuple[str, ...] = ()
        #: When a monitor last sent a command (monotonic seconds).
        self.heard_at = float("-inf")

    def start(self) -> None:
        """Start to listen. Idempotent."""
        if self._thread is None or not self._thread.is_alive():
            self._ending = threading.Event()
            self._thread = threading.Thread(
                target=self._listen, args=(self._ending,), name="remote-control", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop listening; blocks for at most a few seconds. Idempotent."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_S)

    def _listen(self, ending: threading.Event) -> None:
        while not ending.is_set():
            try:
                self._consume(ending)
            except Exception as exc:
                if not ending.is_set():
                    log.debug("remote control: connecting again after an error: %s", exc)
                    ending.wait(_PAUSE_S)

    def _consume(self, ending: threading.Event) -> None:
        with self._app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            channel = connection.channel()
            # One queue serves all workers; each message names the workers that it addresses.
            listener = Node(f"mirror.{default_nodename(None)}", mailbox=self._app.control.mailbox, channel=channel)
            consumer = listener.listen(callback=lambda body, message: self._heard(body, message, channel))
            try:
                while not ending.is_set():
                    with contextlib.suppress(socket.timeout, TimeoutError):
                        connection.drain_events(timeout=0.5)
            finally:
                with contextlib.suppress(Exception):
                    consumer.cancel()

    def _heard(self, body: Any, message: Any, channel: Any) -> None:
        if not isinstance(body, dict) or not isinstance(body.get("method"), str):
            return
        self.heard_at = time.monotonic()
        for hostname in self.hostnames:
            handler = _Handler(self._answer, hostname, body["method"])
            node = Node(
                hostname, mailbox=self._app.control.mailbox, channel=channel, handlers={body["method"]: handler}
            )
            try:
                node.handle_message(body, message)
            except _SilentError:
                continue
            except Exception as exc:
                log.warning("remote control: the command %s for %s failed: %s", body["method"], hostname, exc)


class _Handler:
    def __init__(self, answer: Answer, hostname: str, method: str) -> None:
        self._answer, self._hostname, self._method = answer, hostname, method

    def __call__(self, _: Any, **arguments: Any) -> Any:
        try:
            return self._answer(self._hostname, self._method, arguments)
        except KeyError:
            # kombu would send an error as an answer; a worker stays silent about a command that it does not know.
            raise _SilentError from None


class _SilentError(BaseException):
    """An error that passes through kombu, which would send any `Exception` as an answer."""
