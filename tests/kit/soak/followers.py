"""Watchers of single tasks (server-sent events) and of all tasks of a user (WebSocket). They come back after breaks."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.kit.soak.doors import Knocker
from tests.kit.soak.ledger import Ledger

#: How long a task is followed at most (seconds).
_PATIENCE_S = 180


class TaskFollower:
    """Follows tasks that report their steps by number: each report must come once and in order, and one end."""

    def __init__(self, knocker: Knocker) -> None:
        self._knocker = knocker
        self._ledger = knocker.ledger

    async def once(self) -> None:
        """Follow one task to its end, over all breaks."""
        recent = [t for t in self._ledger.recent(40) if t.kind == "steps" and not t.cancelled and not t.retried]
        if not recent:
            return
        chosen = self._knocker.chance.choice(recent)
        seen = _Seen(self._ledger, chosen.task_id)
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and not self._knocker.stopped.is_set():
            headers = {"Last-Event-ID": seen.last_id} if seen.last_id else {}
            path = f"/api/v1/tasks/{chosen.task_id}/progress/stream"
            try:
                async with self._knocker.client().stream("GET", path, headers=headers, timeout=25) as answer:
                    if answer.status_code in (204, 404):
                        return
                    await seen.read(answer)
            except httpx.HTTPError:
                self._ledger.watched["broken task streams"] += 1
            if seen.done:
                self._ledger.watched["task streams to the end"] += 1
                return
            await asyncio.sleep(self._knocker.chance.uniform(0.1, 2))


class _Seen:
    """What a follower has seen of one task."""

    def __init__(self, ledger: Ledger, task_id: str) -> None:
        self._ledger = ledger
        self._task_id = task_id
        self.last_id = ""
        self._step = 0
        self.done = False

    async def read(self, answer: httpx.Response) -> None:
        """Read frames until the stream ends."""
        frame: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                frame[name] = value
                continue
            if "data" in frame:
                self._take(frame)
            frame = {}

    def _take(self, frame: dict[str, str]) -> None:
        data = json.loads(frame["data"])
        if frame.get("event") == "done":
            self.done = True
        elif frame.get("event") == "progress":
            self._progress(data)
        event_id = frame.get("id", "")
        if event_id and self.last_id and _position(event_id) <= _position(self.last_id):
            self._ledger.fault("repeated event", f"{self._task_id}: {event_id} after {self.last_id}")
        self.last_id = event_id or self.last_id

    def _progress(self, data: dict[str, Any]) -> None:
        if data.get("snapshot"):
            self._ledger.watched["snapshots"] += 1
            self._step = int(data.get("message") or 0)
            return
        step = int(data.get("message") or 0)
        # A new attempt begins with the first step again.
        if step not in (self._step + 1, 1):
            self._ledger.fault("gap in a stream", f"{self._task_id}: step {step} after {self._step} at {self.last_id}")
        self._step = step


class UserFollower:
    """Follows all tasks of a user by WebSocket, and comes back with the id of the last message."""

    def __init__(self, ledger: Ledger, urls: list[str], user_id: str, token: str) -> None:
        self._ledger = ledger
        self._urls = urls
        self.user_id = user_id
        self._token = token
        self._last_id = ""
        #: How often each task was seen to end.
        self.ends: Counter[str] = Counter()
        #: Whether messages may have been missed, as the server said.
        self.unrecovered = 0
        self._turn = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self._turn += 1
            url = self._urls[self._turn % len(self._urls)].replace("http", "ws")
            address = f"{url}/api/task/ws/task/{self.user_id}?token={self._token}"
            if self._last_id:
                address += f"&last_event_id={self._last_id}"
            try:
                async with connect(address, open_timeout=20, max_queue=None, ping_interval=10) as connection:
                    async for text in connection:
                        self._take(json.loads(text))
            except (OSError, WebSocketException, TimeoutError):
                self._ledger.watched["broken user feeds"] += 1
            await asyncio.sleep(1)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "connected" and message.get("recovered") is False:
            self.unrecovered += 1
        if message["type"] == "task_status" and not message.get("snapshot"):
            if message["status"] in ("completed", "failed", "cancelled"):
                self.ends[message["task_id"]] += 1
            event_id = message.get("id", "")
            if event_id and self._last_id and _position(event_id) <= _position(self._last_id):
                self._ledger.fault("repeated message", f"user {self.user_id}: {event_id} after {self._last_id}")
        self._last_id = message.get("id") or self._last_id


def _position(event_id: str) -> tuple[int, int]:
    first, _, second = event_id.partition("-")
    try:
        return int(first), int(second or 0)
    except ValueError:
        return 0, 0
