"""What waits to be sent to one client, with a bound."""

from __future__ import annotations

import asyncio
from collections import deque

from fastapi import WebSocket


class Outbox:
    """Texts in their order; `most` of them, and `most_bytes` where there is more than one."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[str] = deque()
        self._waiting_bytes = 0
        self._something = asyncio.Event()
        self._nothing = asyncio.Event()
        self._nothing.set()

    def put(self, text: str) -> bool:
        """Put a text in line. Returns False if that is more than may wait; then all that waits is forgotten."""
        self._waiting.append(text)
        self._waiting_bytes += len(text)
        fits = len(self._waiting) <= self._most and (self._waiting_bytes <= self._most_bytes or len(self._waiting) == 1)
        if not fits:
            self._waiting.clear()
        self._nothing.clear()
        self._something.set()
        return fits

    @property
    def half_full(self) -> bool:
        """Whether it is time to wait until the client has taken what is there."""
        return len(self._waiting) >= self._most // 2 or self._waiting_bytes >= self._most_bytes // 2

    async def emptied(self) -> None:
        """Wait until nothing waits."""
        await self._nothing.wait()

    async def write(self, websocket: WebSocket) -> None:
        """Send what is put in line, for ever."""
        while True:
            await self._something.wait()
            while self._waiting:
                text = self._waiting.popleft()
                self._waiting_bytes -= len(text)
                await websocket.send({"type": "websocket.send", "text": text})
            self._something.clear()
            self._nothing.set()
