"""What waits to be sent to one WebSocket client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from starlette.types import Message, Send

from celeriac.store.roles.role import end


class Outbox:
    """Messages in their order, bounded. A task sends them; it exists only while something waits.

    `write` sends a text at once, and returns False if the client does not take it now: then the text waits.
    `most` messages may wait, and texts of `most_bytes` characters if there are several. If sending fails, what waits is
    forgotten and `on_failure` is called with the error.
    """

    def __init__(
        self,
        send: Send,
        *,
        most: int,
        most_bytes: float = float("inf"),
        on_failure: Callable[[Exception], object],
        write: Callable[[str], bool] | None = None,
    ) -> None:
        self.most = most
        self._write_now = write
        self._send = send
        self._most_bytes = most_bytes
        self._on_failure = on_failure
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None

    def put(self, text: str) -> bool:
        """Add a text. Returns False if that is more than may wait; then all that waits is forgotten."""
        if self._writer is None and self._write_now is not None and self._write_now(text):
            return True
        size = self._bytes + len(text)
        if len(self._waiting) >= self.most or (size > self._most_bytes and self._waiting):
            self.clear()
            return False
        self._bytes = size
        self._add({"type": "websocket.send", "text": text})
        return True

    def close(self, code: int, reason: str) -> None:
        """Add the end of the connection, whatever waits."""
        self._add({"type": "websocket.close", "code": code, "reason": reason})

    @property
    def half_full(self) -> bool:
        """Whether it is time to wait until the client has taken what is there."""
        return len(self._waiting) > self.most // 2 or self._bytes > self._most_bytes / 2

    async def emptied(self, *, at_most_s: float | None = None) -> None:
        """Wait until everything is sent, at most for a while."""
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=at_most_s)

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._bytes = 0

    def abort(self) -> None:
        """Forget what waits, and stop sending."""
        self.clear()
        if self._writer is not None:
            self._writer.cancel()

    async def stop(self) -> None:
        """Forget what waits, and wait until nothing is being sent. Idempotent."""
        self.clear()
        if self._writer is not None:
            await end(self._writer)

    def _add(self, message: Message) -> None:
        self._waiting.append(message)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                message = self._waiting.popleft()
                self._bytes -= len(message.get("text", ""))
                await self._send(message)
        except Exception as exc:
            self.clear()
            self._on_failure(exc)
        finally:
            self._writer = None
