"""One connection over which a user is notified (docs/notifications.md).

It first catches up with the feed at its own pace, and is then attached to the one reader of that feed in this process.
The messages that wait for a client are bounded: a client that does not take them is closed with 1013, and comes back
with the id of the last message that it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from celeriac import json_text
from celeriac.access.principal import Principal
from celeriac.errors import JsonError, StoreUnavailableError, TaskNotFoundError
from celeriac.model import rfc3339, stream_position, utc_from_ms
from celeriac.store.patience import until_back
from celeriac.store.roles.role import end
from celeriac.store.watching.user_feeds import PAGE, FeedMessage, LostPositionError, UserFeeds, place_of
from celeriac_api.access.limits import TokenBucket
from celeriac_api.http.outbox import Outbox
from celeriac_api.http.websocket_protocol import PONGS
from celeriac_api.notifications.task_status import message_text, status_fields
from celeriac_api.parts import Parts

log = logging.getLogger(__name__)

#: Close codes: the first two mean "come back with the last id".
RESTARTING: Final = 1012
TRY_LATER: Final = 1013
REFUSED: Final = 1008
TOO_LARGE: Final = 1009
#: What a client may send: the fields of each type.
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "ping": (),
    "subscribe": ("task_id", "last_event_id"),
    "unsubscribe": ("task_id",),
    "auth": ("token", "last_event_id"),
}
#: How long a client may take to answer a close (seconds).
_CLOSE_S: Final = 5.0
#: How much of an id an error repeats (characters): no task has a longer one.
_MOST_ID: Final = 255
#: The errors that mean that the client is gone.
GONE: Final = (WebSocketDisconnect, RuntimeError, ConnectionError)


class UserConnection:
    """One connected client of a user."""

    def __init__(
        self, websocket: WebSocket, parts: Parts, principal: Principal, user_id: str, last_id: str | None
    ) -> None:
        self._websocket = websocket
        self._parts = parts
        self._feeds: UserFeeds = parts.feeds
        self._settings = parts.settings.notifications
        self._principal = principal
        self._user_id = user_id
        self._seen = last_id
        #: The id of the last message of the feed that waits or was sent. Every other message repeats it.
        self._cursor: str | None = None
        self._opened = asyncio.Event()
        self._heard_at = time.monotonic()
        websocket.scope.get(PONGS, {})["heard"] = self._hear
        self._outbox = Outbox(
            websocket.send,
            most=self._settings.buffer_messages,
            most_bytes=self._settings.buffer_bytes,
            on_failure=self._cannot_write,
        )
        self._closing: tuple[int, str] | None = None
        self._close_asked = asyncio.Event()
        #: The single tasks of other users that the client follows.
        self._single: dict[str, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Send and receive until one side closes."""
        await self._feeds.join(self._user_id)
        steps: list[Coroutine[Any, Any, None]] = [
            self._listen(),
            self._until_closed(),
            self._begin(),
        ]
        listening, closing, _ = tasks = [asyncio.create_task(step) for step in steps]
        try:
            await asyncio.wait([listening, closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await asyncio.gather(*map(end, (*tasks, *self._single.values())))
            await self._outbox.stop()
            self._feeds.leave(self._user_id, self)
        if not listening.cancelled() and (exc := listening.exception()) is not None and not isinstance(exc, GONE):
            log.error("a notification connection broke off", exc_info=exc)
        if self._closing is not None:
            await close(self._websocket, *self._closing)

    # --- what the feed calls

    def deliver(self, messages: Sequence[FeedMessage]) -> None:
        """Send messages to the client."""
        if messages:
            self._cursor = messages[-1].id
        for message in messages:
            if (text := message_text(message)) is not None:
                self._put(text)

    def lost(self) -> None:
        """Close the connection, because messages were lost; the client comes back and gets a snapshot."""
        self.close(TRY_LATER, "the feed lost its place: come back with the last id")

    def close(self, code: int, reason: str) -> None:
        """End the connection."""
        if self._closing is None:
            self._closing = (code, reason)
            self._close_asked.set()

    # --- what it consists of

    def _cannot_write(self, error: Exception) -> None:
        if not isinstance(error, GONE):
            log.error("a notification connection broke off", exc_info=error)
        self.close(TRY_LATER, "the connection broke off: come back with the last id")

    def _hear(self) -> None:
        self._heard_at = time.monotonic()

    def _put(self, text: str) -> None:
        if self._closing is None and not self._outbox.put(text):
            self.close(TRY_LATER, "too slow: come back with the last id")

    def _say(self, kind: str, **fields: Any) -> None:
        self._put(json_text.encode({"type": kind, **fields}).decode())

    async def _until_closed(self) -> None:
        """Wait for a reason to close: a call of `close`, silence of the client, or the end of its credential."""
        expires_at = self._principal.expires_at
        silence_s = self._settings.client_timeout
        while self._closing is None:
            left_s = self._heard_at + silence_s - time.monotonic()
            if left_s <= 0:
                self.close(TRY_LATER, "nothing was received from you, not even a pong")
            elif expires_at is not None and expires_at <= time.time():
                self.close(REFUSED, "the token has expired: come back with another one")
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, (expires_at or time.time() + left_s) - time.time())):
                        await self._close_asked.wait()

    async def _begin(self) -> None:
        try:
            await self._open()
        except Exception:
            log.exception("a notification connection could not be opened")
            self.close(TRY_LATER, "the server has an internal error: come back")

    async def _open(self) -> None:
        """Send the present state and what the client missed, then go on live."""
        opening = await self._patiently(lambda: self._feeds.open(self._user_id))
        recovered: bool | None = None
        first: list[FeedMessage] = []
        cursor = opening.position
        if self._seen is not None:
            try:
                place_of(self._seen)
                seen = self._seen
                first = await self._patiently(lambda: self._feeds.read(self._user_id, seen))
                cursor, recovered = seen, True
            except (ValueError, LostPositionError):
                recovered = False
        most_bytes = self._parts.settings.max_page_bytes
        states, left_out = await self._patiently(lambda: self._feeds.some_states(opening.active, most_bytes))
        # A client that gets a snapshot has the new position only after all of it. If it is cut off before, it gets
        # the snapshot again.
        shown = self._cursor = self._seen if recovered is False else cursor
        self._say(
            "connected",
            id=shown,
            connection_id=str(uuid.uuid4()),
            message="Connected",
            timestamp=_now(),
            **({} if recovered is None else {"recovered": recovered}),
        )
        tasks = [status_fields(state) for state in states.values() if state.user_id == self._user_id]
        count = len(tasks) + left_out + max(opening.active_count - len(opening.active), 0)
        # One after the other, because a long list may be larger than what is allowed to wait.
        await self._outbox.emptied()
        self._say("active_tasks", id=shown, tasks=tasks, count=count, timestamp=_now())
        self._opened.set()
        await self._outbox.emptied()
        if recovered is False:
            await self._tell_ended(opening.ended)
            self._cursor = cursor
            self._say("snapshot_complete", id=cursor, timestamp=_now())
        await self._catch_up(cursor, first)

    async def _tell_ended(self, task_ids: Sequence[str]) -> None:
        """Send how tasks ended whose messages may be lost."""
        for start in range(0, len(task_ids), PAGE):
            some = task_ids[start : start + PAGE]
            states = await self._patiently(lambda some=some: self._feeds.states(some))  # type: ignore[misc]
            for state in states.values():
                if state.user_id == self._user_id:
                    self._say("task_status", id=self._cursor, **status_fields(state), snapshot=True)
            await self._outbox.emptied()

    async def _catch_up(self, cursor: str, messages: list[FeedMessage]) -> None:
        while True:
            for message in messages:
                # At the pace of the client, so that missed messages wait in the store and not here.
                if self._outbox.half_full:
                    await self._outbox.emptied()
                self.deliver([message])
                cursor = message.id
            if len(messages) < PAGE and self._feeds.attach(self._user_id, self, cursor):
                return
            try:
                after = cursor
                messages = await self._patiently(lambda after=after: self._feeds.read(self._user_id, after))  # type: ignore[misc]
            except LostPositionError:
                self.lost()
                return

    async def _patiently(self, attempt: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await until_back(attempt, what="a notification connection")

    async def _listen(self) -> None:
        allowed = TokenBucket(self._settings.max_client_rate, 2 * self._settings.max_client_rate)
        while True:
            received = await self._websocket.receive()
            self._hear()
            if received["type"] == "websocket.disconnect":
                return
            await self._opened.wait()
            text = received.get("text")
            if len(text or received.get("bytes") or b"") > self._settings.max_client_bytes:
                self.close(TOO_LARGE, f"messages may have {self._settings.max_client_bytes} bytes")
                return
            if allowed.wait_s() > 0:
                self.close(REFUSED, "too many messages")
                return
            message = read(text)
            match message.get("type"), message.get("task_id"):
                case "ping", _:
                    self._say("pong", id=self._cursor, timestamp=_now())
                case "subscribe", str(task_id):
                    await self._subscribe(task_id, message.get("last_event_id"))
                case "unsubscribe", str(task_id):
                    if (following := self._single.pop(task_id, None)) is not None:
                        await end(following)
                case "auth", _:
                    pass  # the client has shown its token already
                case _:
                    known = "send ping, or subscribe or unsubscribe with a task_id"
                    self._error("invalid_request", f"this is not a message of the protocol: {known}")

    async def _subscribe(self, task_id: str, after: Any) -> None:
        """Send the state of a task, and follow it if it is another user's; the own ones are followed anyway."""
        try:
            state = (await self._feeds.states([task_id])).get(task_id)
        except StoreUnavailableError as exc:
            self._error("store_unavailable", str(exc), task_id)
            return
        if state is None or not (state.user_id == self._user_id or self._principal.sees(state.user_id)):
            self._error("task_not_found", str(TaskNotFoundError(task_id[:_MOST_ID])), task_id)
            return
        self._say("task_status", id=self._cursor, **status_fields(state), snapshot=True)
        if state.user_id == self._user_id or task_id in self._single:
            return
        if after is not None and not (isinstance(after, str) and stream_position(after) is not None):
            self._error("invalid_request", "last_event_id must be a task_event_id, such as 1896076800000-0", task_id)
            return
        if len(self._single) >= self._settings.max_subscriptions:
            most = self._settings.max_subscriptions
            self._error(
                "too_many_connections", f"you follow {most} tasks, which is the limit: unsubscribe one", task_id
            )
            return
        following = asyncio.create_task(self._follow(task_id, after))
        self._single[task_id] = following

    async def _follow(self, task_id: str, after: str | None) -> None:
        """Follow one task of another user. Its messages do not move the client's position in the feed."""
        if after is None:
            _, last = await self._patiently(lambda: self._parts.store.event_bounds(task_id))
            after = last or "-"
        async with contextlib.aclosing(self._parts.hub.follow(task_id, after=after)) as events:
            async for event in events:
                if event is None:
                    continue
                message = FeedMessage(event.id, task_id, event.id, event.kind, dict(event.fields))
                await self._patiently(lambda message=message: self._feeds.complete([message]))  # type: ignore[misc]
                if (text := message_text(message)) is not None:
                    document = json_text.read(text) | {"id": self._cursor, "task_event_id": event.id}
                    self._put(json_text.encode(document).decode())
                    if self._outbox.half_full:
                        await self._outbox.emptied()

    def _error(self, code: str, message: str, task_id: str | None = None) -> None:
        about = {} if task_id is None else {"task_id": task_id[:_MOST_ID]}
        self._say("error", id=self._cursor, code=code, message=message, **about, timestamp=_now())


def read(text: str | None) -> dict[str, Any]:
    """Return the JSON object that a client sent; an empty one if it sent something else."""
    try:
        found = json_text.read(text or "")
    except JsonError:
        return {}
    return found if isinstance(found, dict) else {}


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close, without waiting for a client that does not read any more."""
    with contextlib.suppress(*GONE, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await websocket.close(code, reason[:120])


def _now() -> str:
    return rfc3339(utc_from_ms(time.time() * 1000))
