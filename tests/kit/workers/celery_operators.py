"""What operators do with a stock Celery app: inspect and control workers, and listen to events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from celery import Celery

from tests.kit.waiting import PATIENCE_S

#: How long an answer may take (seconds).
_ANSWER_S = 30.0
_MARK = "listener-subscribed"


class Operator:
    """Asks and commands workers over a broker, as `celery inspect`, `celery control` and Flower do."""

    def __init__(self, broker: str) -> None:
        self.app = Celery("operator", broker=broker, set_as_current=False)
        self._answered = 0

    async def ask(
        self, method: str, *, workers: int = 1, destination: list[str] | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Return the answers of the workers by their names; it waits for that many."""
        if self._answered < workers:
            await asyncio.to_thread(wait_for_answers, self.app, workers=workers, destination=destination)
            self._answered = workers
        replies = await asyncio.to_thread(
            self.app.control.broadcast,
            method,
            arguments=arguments,
            destination=destination,
            reply=True,
            limit=workers,
            timeout=_ANSWER_S,
        )
        return {name: answer for reply in replies for name, answer in reply.items()}

    async def ask_one(self, method: str, **arguments: Any) -> Any:
        """Return the answer of the only worker."""
        (answer,) = (await self.ask(method, **arguments)).values()
        return answer


def wait_for_answers(app: Celery, *, workers: int = 1, destination: list[str] | None = None) -> None:
    """Ping until so many workers answer.

    A worker announces itself, and runs tasks, a moment before it hears questions. One that comes earlier is lost.
    The connection may be one that is left from an earlier test, and that has been closed since.
    """
    deadline = time.monotonic() + PATIENCE_S
    broken = app.connection_for_write().connection_errors
    answered = 0
    while answered < workers:
        assert time.monotonic() < deadline, f"{workers} workers answer"
        with contextlib.suppress(*broken):
            answered = len(app.control.ping(destination, timeout=1.0, limit=workers))


class EventListener:
    """Hears Celery's events as `celery events` does, in a thread of its own."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)
        self.heard: list[dict[str, Any]] = []
        self.ready = threading.Event()

    def of_task(self, task_id: str) -> list[dict[str, Any]]:
        """Return the events of a task in the order in which their senders numbered them."""
        return [event for event in list(self.heard) if event.get("uuid") == task_id]

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._ending.set()
        self._thread.join()

    def _hear(self, event: dict[str, Any]) -> None:
        if event["type"] == _MARK:
            self.ready.set()
        else:
            self.heard.append(event)

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self._hear})
            with receiver.consumer_context() as (listening, *_), self._app.events.default_dispatcher() as dispatcher:
                while not self._ending.is_set():
                    if not self.ready.is_set():
                        # It is subscribed some time after it says so to the server: when it hears itself.
                        dispatcher.send(_MARK)
                    with contextlib.suppress(socket.timeout):
                        listening.drain_events(timeout=0.2)


@contextlib.asynccontextmanager
async def events_of(broker: str, app: Celery | None = None) -> AsyncIterator[EventListener]:
    """Give a listener that hears all events of a broker from now on, as `app` or as a stock app does."""
    listener = EventListener(app or Celery("listener", broker=broker, set_as_current=False))
    listener.start()
    try:
        assert await asyncio.to_thread(listener.ready.wait, _ANSWER_S), "it is subscribed"
        yield listener
    finally:
        await asyncio.to_thread(listener.stop)


@contextlib.asynccontextmanager
async def operator_of(broker: str) -> AsyncIterator[Operator]:
    """Give an operator; its connections are closed afterwards."""
    operator = Operator(broker)
    try:
        yield operator
    finally:
        operator.app.close()
