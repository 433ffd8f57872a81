"""A connection of Celery's threads that hears of tasks, and over which they ask how a task is.

The server answers the commands of one connection in their order. So a question that follows a subscription leaves no
gap: what happens before the answer is in it, and what happens later comes as a message.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

log = logging.getLogger(__name__)

#: So many channels may wait to be left until the next one is subscribed to: then both travel together.
_LEFT_AT_ONCE: Final = 64
#: At most so many messages are read at once.
_READ_AT_ONCE: Final = 256
#: What an answer consists of: a field of the record, and the value of a key.
_REPLIES: Final = 2


class Question:
    """How a task is: the `status` of its record (None: there is none), and the `value` of the key asked about."""

    __slots__ = ("_replies", "lost")

    def __init__(self) -> None:
        self._replies: list[Any] = []
        #: Whether the answer will not come, because the connection was lost.
        self.lost = False

    @property
    def open(self) -> bool:
        """Whether the answer may still come."""
        return not self.lost and len(self._replies) < _REPLIES

    @property
    def status(self) -> str | None:
        """The status in the store's spelling."""
        found: bytes | None = self._replies[0]
        return None if found is None else found.decode()

    @property
    def value(self) -> bytes | None:
        """The value of the key; None: there is none."""
        found: bytes | None = self._replies[1]
        return found

    def take(self, reply: Any) -> None:
        """Take the next part of the answer."""
        self._replies.append(reply)


class StateListener:
    """Hears channels over one connection of a pool; one thread at a time may call it.

    After an error of the driver it is of no more use: `close` it and make another one.
    """

    def __init__(self, pool: Any) -> None:
        self.pid = os.getpid()
        #: Set while it listens to something.
        self.subscribed_event = threading.Event()
        #: What was heard and not taken yet: channel and text.
        self.heard: deque[tuple[bytes, bytes]] = deque()
        self._pool = pool
        self._channels: set[str] = set()
        #: Those that the server is still to be told to begin with, and to end.
        self._joining: list[str] = []
        self._leaving: set[str] = set()
        self._questions: deque[Question] = deque()
        # Untyped: redis-py's annotations do not cover it.
        self.connection: Any = pool.get_connection()
        #: Whether questions can be asked: before version 3 of the protocol only messages come here.
        self.answers = str(self.connection.protocol) == "3"
        if self.answers:
            # The driver's own handler writes each message into a log.
            self.connection._parser.set_pubsub_push_handler(_itself)

    @property
    def subscribed(self) -> bool:
        """Whether it listens to something."""
        return self.subscribed_event.is_set()

    def subscribe(self, *channels: str, with_next: bool = False) -> None:
        """Listen to channels; does not wait until the server has heard it. Raises the driver's errors.

        `with_next`: the server hears of it with the next command, which is to come at once.
        """
        staying = self._leaving.intersection(channels)
        self._leaving -= staying
        self._joining += [one for one in channels if one not in staying and one not in self._channels]
        self._channels.update(channels)
        self.subscribed_event.set()
        if not with_next:
            self._send([])

    def unsubscribe(self, *channels: str) -> None:
        """Stop listening to channels. Many are left at once; a few messages of them may still come."""
        self._channels.difference_update(channels)
        self._leaving.update(channel for channel in channels if channel not in self._joining)
        self._joining = [channel for channel in self._joining if channel not in channels]
        if not self._channels:
            self.subscribed_event.clear()
        if len(self._leaving) >= _LEFT_AT_ONCE:
            self._send([])

    def ask(self, record: str, key: str) -> Question:
        """Ask for the status of a record, and for the value of a key; raises the driver's errors."""
        question = Question()
        self._send([("HGET", record, "status"), ("GET", key)])
        self._questions.append(question)
        return question

    def read(self) -> bool:
        """Read what is there, into `heard` and into the questions; returns whether there was anything.

        Raises the driver's errors; after a refusal of the server it is closed.
        """
        if self.connection is None:
            return False
        connection, found = self._connected(), False
        while len(self.heard) < _READ_AT_ONCE:
            with _lost_if_closed():
                if not connection.can_read(timeout=0):
                    break
                found = True
                try:
                    reply = connection.read_response(disconnect_on_error=False, push_request=True)
                except ResponseError:
                    # Whether it is the answer to a subscription or to a question is not known any more.
                    self.close()
                    raise
            if not isinstance(reply, list):
                self._answer(reply)
            elif reply[0] == b"message":
                self.heard.append((reply[1], reply[2]))
        return found

    def close(self) -> None:
        """Give the connection up, and all that was asked over it. Idempotent."""
        for question in self._questions:
            question.lost = True
        self._questions.clear()
        self._channels.clear()
        self._joining.clear()
        self._leaving.clear()
        self.subscribed_event.clear()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def _send(self, commands: list[tuple[str, ...]]) -> None:
        """Send what is to be subscribed to and left, and then these commands."""
        connection = self._connected()
        leaving, self._leaving = self._leaving, set()
        joining, self._joining = self._joining, []
        changes = [("UNSUBSCRIBE", *leaving)] if leaving else []
        if joining:
            changes.append(("SUBSCRIBE", *joining))
        if changes or commands:
            with _lost_if_closed():
                connection.send_packed_command(connection.pack_commands([*changes, *commands]), check_health=False)

    def _connected(self) -> Any:
        """Return the connection; the driver would connect one anew that is lost, without what was subscribed to."""
        if self.connection is None or self.connection.place is None:
            raise RedisConnectionError("the connection was lost")
        return self.connection

    def _answer(self, reply: Any) -> None:
        if not self._questions:
            return
        self._questions[0].take(reply)
        if not self._questions[0].open:
            self._questions.popleft()


@contextlib.contextmanager
def _lost_if_closed() -> Iterator[None]:
    """Raise a connection error where the driver stumbles over what another thread takes away as it closes the pool."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        log.info("a connection that hears of tasks broke, and is replaced: %r", error)
        raise RedisConnectionError("the connection was closed meanwhile") from error


def _itself(message: Any) -> Any:
    return message
