"""Users' feeds: what happened to the tasks of a user, in one stream per user to which a client may return.

A message's id is its place in the stream. A client that returns with an id gets what follows, if the stream still holds
that very message: then nothing after it can be missing. Otherwise (trimmed, expired, or lost with a store) the client
learns that its position was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Protocol

from celeriac.errors import CeleriacError
from celeriac.model import Awaited, Status, stream_position
from celeriac.settings import NotificationSettings
from celeriac.store import keys
from celeriac.store.life import field_of
from celeriac.store.server.pipeline import BatchConnection
from celeriac.store.server.scripts import script
from celeriac.store.suspension import awaited_from
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.wakeups import FeedReader

#: Most messages of a feed that one look reads, and most feeds that one round trip reads.
PAGE: Final = 100
_FEEDS_AT_ONCE: Final = 128
#: Most records that one call reads.
_STATES_AT_ONCE: Final = 100
_FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class LostPositionError(CeleriacError):
    """A feed no longer holds the message that a client saw last, so messages after it may be missing."""

    code = "position_lost"


@dataclass(frozen=True, slots=True)
class TaskState:
    """The present state of a task as its user sees it; texts are those of the record."""

    task_id: str
    status: str
    percentage: float
    stage: str
    message: str
    #: Whether it ever reported progress.
    reported: bool
    #: RFC 3339.
    updated_at: str
    error_code: str
    error_message: str
    user_id: str | None
    #: JSON; None if there is none, or if it is too long.
    result: str | None
    result_left_out: bool
    #: What a WAITING task waits for.
    waiting_for: tuple[Awaited, ...] = ()


@dataclass(slots=True)
class FeedMessage:
    """One event of a task of the user. An event that ends a task has a `state`."""

    id: str
    task_id: str
    #: Its id in the task's own stream.
    event_id: str
    kind: str
    fields: dict[str, str]
    state: TaskState | None = None
    #: The text that is sent, made once for all connections of the user.
    rendered: str | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Its id as numbers that can be compared."""
        return place_of(self.id)


@dataclass(frozen=True, slots=True)
class Opening:
    """The end of a feed, and the ids of the user's tasks, the latest first. `active_count` includes those left out."""

    position: str
    active_count: int
    active: list[str]
    ended: list[str]


class Follower(Protocol):
    """A receiver of a feed's messages. Both calls return at once."""

    def deliver(self, messages: Sequence[FeedMessage]) -> None:
        """Take messages, in order."""
        ...

    def lost(self) -> None:
        """Learn that the position was lost, so that messages may be missing."""
        ...


@dataclass(slots=True)
class _Feed:
    user_id: str
    #: The last message that all followers have received or skip; None before the first one.
    position: str | None = None
    #: The followers, each with the last message that it read by itself.
    followers: dict[Follower, tuple[int, int]] = field(default_factory=dict)
    joined: int = 0
    end_listening: Callable[[], None] | None = None


class UserFeeds(FeedReader):
    """One reader for all feeds that are followed through this process."""

    def __init__(self, *, store: TaskStore, hub: LiveHub, notifications: NotificationSettings) -> None:
        super().__init__(at_once=_FEEDS_AT_ONCE)
        self._store = store
        self._hub = hub
        self._settings = notifications
        self._connection = BatchConnection(store.redis.connection_pool)
        self._feeds: dict[str, _Feed] = {}

    async def stop(self) -> None:
        """Stop reading. Idempotent."""
        await super().stop()
        await self._connection.close()

    # --- for one connection: join, open, read until caught up, attach, leave

    async def join(self, user_id: str) -> None:
        """Begin to listen to the user's feed; needs one `leave`."""
        feed = self._feeds.get(user_id)
        if feed is None:
            feed = self._feeds[user_id] = _Feed(user_id)
        feed.joined += 1
        if feed.joined == 1:
            try:
                end_listening = await self._hub.listen(keys.feed(user_id), lambda _: self.wake([user_id]))
            except BaseException:
                # Those who joined meanwhile get the feed by the regular look; the next one to join listens again.
                feed.joined -= 1
                if feed.joined == 0:
                    del self._feeds[user_id]
                raise
            if feed.joined == 0:
                end_listening()
            else:
                feed.end_listening = end_listening

    def leave(self, user_id: str, follower: Follower) -> None:
        """Undo `join`, and `attach` if that happened."""
        feed = self._feeds[user_id]
        feed.followers.pop(follower, None)
        feed.joined -= 1
        if feed.joined == 0:
            del self._feeds[user_id]
            if feed.end_listening is not None:
                feed.end_listening()

    def attach(self, user_id: str, follower: Follower, cursor: str) -> bool:
        """Deliver what follows `cursor` from now on; False if the follower has to read on by itself first."""
        feed = self._feeds[user_id]
        if feed.position is None or not feed.followers:
            feed.position = cursor
        elif place_of(cursor) < place_of(feed.position):
            return False
        feed.followers[follower] = place_of(cursor)
        self.wake([user_id])
        return True

    async def open(self, user_id: str) -> Opening:
        """Return the end of the user's feed, and the user's tasks. What happens later has a later place."""
        source = script("open_feed").source
        feed_ms = round(self._settings.keep * 1000)
        reply = (
            await self._store.read(
                (
                    *("EVAL", source, 3, keys.feed(user_id), keys.active(user_id), keys.recent(user_id)),
                    *(feed_ms, self._settings.max_listed),
                )
            )
        )[0]
        return Opening(reply[0], int(reply[1]), reply[2], reply[3])

    async def read(self, user_id: str, after: str, count: int = PAGE) -> list[FeedMessage]:
        """Return up to `count` messages after the one of id `after`; raises `LostPositionError`."""
        reply = (await self._store.read(_range(user_id, after, count)))[0]
        messages = _following(reply, after)
        if messages is None:
            raise LostPositionError("the feed no longer holds the message that was seen last")
        await self.complete(messages)
        return messages

    async def some_states(self, task_ids: Sequence[str], most_bytes: int) -> tuple[dict[str, TaskState], int]:
        """Return what `states` returns, within about so many bytes, and how many of the last tasks were left out.

        Results are left out first. Tasks are left out only if the texts alone are too long.
        """
        found: dict[str, TaskState] = {}
        results = texts = 0
        for start in range(0, len(task_ids), _STATES_AT_ONCE):
            if texts > most_bytes:
                return found, len(task_ids) - start
            longest = None if results + texts <= most_bytes else 0
            some = await self.states(task_ids[start : start + _STATES_AT_ONCE], max_result_bytes=longest)
            results += sum(len(state.result or "") for state in some.values())
            texts += sum(len(state.message) + len(state.stage) + len(state.error_message) for state in some.values())
            found |= some
        return found, 0

    async def states(self, task_ids: Sequence[str], *, max_result_bytes: int | None = None) -> dict[str, TaskState]:
        """Return the states of the tasks that have a record, in the order of the ids."""
        longest = self._settings.max_result_bytes if max_result_bytes is None else max_result_bytes
        source = script("states").source
        found: dict[str, TaskState] = {}
        for start in range(0, len(task_ids), _STATES_AT_ONCE):
            some = task_ids[start : start + _STATES_AT_ONCE]
            names = [keys.task(task_id) for task_id in some]
            replies = await self._store.read(("EVAL", source, len(names), *names, longest))
            for task_id, reply in zip(some, replies[0], strict=True):
                if reply[0]:
                    found[task_id] = _state(task_id, reply)
        waiting = [task_id for task_id, state in found.items() if state.status == Status.WAITING.stored]
        opened = await self._store.read(*(("HGETALL", keys.open_conditions(task_id)) for task_id in waiting))
        for task_id, items in zip(waiting, opened, strict=True):
            found[task_id] = replace(found[task_id], waiting_for=awaited_from(items))
        return found

    # --- the reader

    @property
    def every_s(self) -> float:
        """Seconds between two looks at all feeds: a wake-up may have got lost."""
        return self._settings.look

    async def followed(self) -> list[str]:
        """Return the users whose feeds somebody follows, after a sign of life that keeps the feeds from expiring."""
        feed_ms = round(self._settings.keep * 1000)
        users = list(self._feeds)
        for start in range(0, len(users), 500):
            await self._store.read(*(("PEXPIRE", keys.feed(user), feed_ms) for user in users[start : start + 500]))
        return users

    async def look(self, names: Sequence[str]) -> None:
        """Read the feeds of these users in one round trip, and deliver what came."""
        feeds = [feed for user in names if (feed := self._feeds.get(user)) is not None and feed.followers]
        if not feeds:
            return
        positions = [str(feed.position) for feed in feeds]
        replies = await self._store.read_over(
            self._connection, [_range(feed.user_id, at, PAGE) for feed, at in zip(feeds, positions, strict=True)]
        )
        found = [_following(reply, at) for reply, at in zip(replies, positions, strict=True)]
        await self.complete([message for messages in found if messages for message in messages])
        for feed, at, messages in zip(feeds, positions, found, strict=True):
            if feed.position != at:
                # All followers left meanwhile, and another one came.
                self.wake([feed.user_id])
            elif messages is None:
                followers, feed.followers, feed.position = list(feed.followers), {}, None
                for follower in followers:
                    follower.lost()
            elif messages:
                self._deliver(feed, messages)

    def _deliver(self, feed: _Feed, messages: list[FeedMessage]) -> None:
        feed.position = messages[-1].id
        first, last = messages[0].place, messages[-1].place
        for follower, cursor in list(feed.followers.items()):
            if cursor < first:
                follower.deliver(messages)
            elif cursor < last:
                follower.deliver([message for message in messages if message.place > cursor])
        if len(messages) >= PAGE:
            self.wake([feed.user_id])

    async def complete(self, messages: Iterable[FeedMessage]) -> None:
        """Add the task's state to each message that ends a task."""
        ended = [message for message in messages if message.fields.get("status") in _FINAL]
        if ended:
            states = await self.states(list(dict.fromkeys(message.task_id for message in ended)))
            for message in ended:
                message.state = states.get(message.task_id)


def place_of(message_id: str) -> tuple[int, int]:
    """Return a message's id as numbers that can be compared; raises `ValueError` for another text."""
    place = stream_position(message_id)
    if place is None:
        raise ValueError(f"{message_id[:100]!r} is not the id of a message, such as 1896076800000-0")
    return place


def _range(user_id: str, after: str, count: int) -> tuple[str | int, ...]:
    # Including the known message, so that the same look shows that nothing after it was lost.
    return ("XRANGE", keys.feed(user_id), after, "+", "COUNT", count + 1)


def _following(reply: Sequence[tuple[str, dict[str, str] | list[str]]], after: str) -> list[FeedMessage] | None:
    """Return the messages after the first one, or None if the first one does not have the id `after`."""
    if not reply or reply[0][0] != after:
        return None
    messages = []
    for message_id, raw in islice(reply, 1, None):
        fields = raw if isinstance(raw, dict) else dict(zip(*[iter(raw)] * 2, strict=True))
        kind = fields.pop("kind", "")
        messages.append(FeedMessage(message_id, fields.pop("task_id", ""), fields.pop("event", ""), kind, fields))
    return messages


def _state(task_id: str, reply: Sequence[str | None]) -> TaskState:
    status, percentage, stage, message, reported, updated, code, error, user, result, left_out, life = reply
    try:
        number = float(percentage or 0)
    except ValueError:  # a foreign program wrote it
        number = 0.0
    return TaskState(
        task_id=task_id,
        status=(status or "").upper(),
        percentage=number,
        stage=stage or "",
        message=message or "",
        reported=bool(reported),
        updated_at=field_of("updated_at", updated, life) or "",
        error_code=code or "",
        error_message=error or "",
        user_id=user,
        result=result,
        result_left_out=bool(left_out),
    )
