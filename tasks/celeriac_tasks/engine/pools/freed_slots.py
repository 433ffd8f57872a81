"""Wakes the worker's loop when a slot of a full pool is free again.

A worker without prefetching asks for no message while its pool is full. In the pools `threads` and `gevent` a task ends
beside the loop, which would sleep on until its next timer: up to two seconds for each message.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

from kombu.utils.eventio import READ

#: So many bytes are read at once from the pipe that wakes a green loop.
_AT_ONCE: Final = 64


class FreedSlots:
    """Watches one pool, over all connections of its worker."""

    def __init__(self, pool: Any) -> None:
        self._wake: Callable[[], object] = _nothing
        #: Whether the loop was told that there is no room, and asks no more until it is woken.
        self._is_full = False
        self._pipe: tuple[int, int] | None = None
        self._apply = pool.on_apply
        pool.on_apply = self._on_apply

    def watch(self, consumer: Any, channel: Any) -> None:
        """Wake this consumer, whose channel has just been opened."""
        qos = channel.qos
        can_consume = qos.can_consume

        def has_room() -> bool:
            # First: what ends while this is reckoned out wakes the loop.
            self._is_full = True
            self._empty()
            if not can_consume():
                return False
            self._is_full = False
            return True

        qos.can_consume = has_room
        if consumer.hub is not None:
            self._wake = lambda: consumer.hub.call_soon(_nothing)
        else:
            reader, writer = self._pipe = self._pipe or _new_pipe()
            channel.connection.cycle.poller.register(reader, READ)
            self._wake = lambda: os.write(writer, b".")

    def _on_apply(self, *args: Any, **options: Any) -> Any:
        running = self._apply(*args, **options)
        if hasattr(running, "link"):
            running.link(self._freed)
        else:
            running.f.add_done_callback(self._freed)
        return running

    def _freed(self, _: Any) -> None:
        if self._is_full:
            self._is_full = False
            with contextlib.suppress(BlockingIOError):
                self._wake()

    def _empty(self) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe[0], _AT_ONCE)


def _new_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _nothing() -> None:
    pass
