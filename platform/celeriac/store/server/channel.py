"""Synchronous calls of the store for Celery's own threads, beside the process's `TaskStore`."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from celeriac.errors import StoreUnavailableError
from celeriac.model import ATTEMPT_FAILED, Status, Submission, Submitted, Task
from celeriac.settings import QueueSettings, StoreSettings
from celeriac.store import keys
from celeriac.store.owners import MOST_OWNED, owner_notes
from celeriac.store.records import log_line_from_entry, task_from_hash
from celeriac.store.server.answers import described
from celeriac.store.server.caller import MOST_REPETITIONS, Caller
from celeriac.store.server.connecting import blocking_client
from celeriac.store.server.durability import Durability, ReplicasMissingError
from celeriac.store.server.pipeline import Command
from celeriac.store.server.scripts import Script, batch_arguments, limit_arguments, script
from celeriac.store.submit_call import further_call_arguments, replacement_arguments, submit_arguments, submitted

#: Attempts to reach a store that is away; with their pauses they take a little over ten seconds.
_ATTEMPTS = 15
#: If a log has a traceback of the last attempt, it is in one of the last lines.
_LAST_LINES = 5
#: How many tasks are cancelled in one round trip.
_CANCELLED_AT_ONCE = 500
#: Where `previews.lua` has the payload.
_PAYLOAD = 6
#: A limit of waiting or scheduled tasks that is never reached.
_NO_LIMIT = 2**53


class StoreChannel:
    """Submits and looks up from any thread, and from a forked child too. A call takes one round trip."""

    def __init__(self, url: str, settings: StoreSettings) -> None:
        unlimited = replace(settings, queues=QueueSettings({}, *[_NO_LIMIT] * 4), max_scheduled=_NO_LIMIT)
        #: By whether the limits of waiting and scheduled tasks apply.
        self._settings = {True: settings, False: unlimited}
        self._limits = limit_arguments(settings)
        self._leading = {
            held: [*limit_arguments(some), *batch_arguments(some)["submit"]] for held, some in self._settings.items()
        }
        # Untyped: redis-py's annotations cover neither scripts nor their replies.
        self._redis: Any = blocking_client(
            url,
            prefix=settings.key_prefix,
            socket_connect_timeout=2,
            socket_timeout=10,
            socket_keepalive=True,
            retry=Retry(ExponentialBackoff(cap=1, base=0.05), _ATTEMPTS),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
        )
        self._caller = Caller(settings.key_prefix)
        self._durability = Durability(settings)
        self._patience_s = settings.store_timeout
        #: For lookups, which the caller may repeat by itself: it tries twice.
        self._reader: Any = blocking_client(
            url,
            prefix=settings.key_prefix,
            socket_connect_timeout=2,
            socket_timeout=3,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.05), 1),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
        )

    def submit(self, submission: Submission, *, within_limits: bool = True, nonce: str | None = None) -> Submitted:
        """Store a submission; raises `StoreUnavailableError`, and within limits `QueueFullError`.

        A replacement takes the place of the task that has its id, if there is one, and no limit refuses it.
        Submissions with one `nonce` are the same one, which came again.
        """
        nonce = nonce or secrets.token_hex(8)
        if submission.replacement:
            outcome, status = self._call("replace", *replacement_arguments(submission, nonce))
            if outcome != "unknown":
                return Submitted(submission.task_id, Status(status), created=outcome == "created")
        arguments = submit_arguments(submission, self._settings[within_limits].queues, nonce)
        with _reached():
            try:
                (reply,) = self._run("submit", *self._leading[within_limits], *arguments)
            except ReplicasMissingError as exc:
                raise exc.of(task_id=submitted(submission, _answer(exc.answer[0])).task_id) from exc
        return submitted(submission, _answer(reply))

    def submit_again(self, submission: Submission, nonce: str | None = None) -> Submitted | None:
        """Store a further call of an id that has a record: it runs after the end of the task, even if that is to come.

        `created` is false if the task waits, or if a further call is noted already; then nothing has changed. Returns
        None if there is no record any more; raises `StoreUnavailableError`. `nonce`: see `submit`.
        """
        outcome, status = self._call("again", *further_call_arguments(submission, nonce or secrets.token_hex(8)))
        if outcome == "unknown":
            return None
        return Submitted(submission.task_id, Status(status), created=outcome == "created")

    def fail_replaced(self, parts: Sequence[tuple[str, int]], message: str) -> list[str]:
        """Fail tasks that wait for parts which will not come; returns the ids of those that waited.

        A part is the id of the task that it was to replace, and how many calls had that id before. A task whose attempt
        still runs fails when it comes to wait. Raises `StoreUnavailableError`.
        """
        return self._call("fail_replaced", message, *(text for part in parts for text in part))

    def _call(self, name: str, *arguments: Any) -> list[str]:
        with _reached():
            return _texts(self._run(name, *self._limits, *arguments))

    def _run(self, name: str, *arguments: Any) -> Any:
        """Run a transition, and again while too few replicas have it; returns its reply when it is kept.

        Raises `ReplicasMissingError` with the reply when the patience is over, and the driver's errors.
        """
        called = script(name)
        waits = self._durability.waits_for([name])
        give_up_at, pause_s = time.monotonic() + self._patience_s, 0.02
        while True:
            reply, waited = self._run_once(called, arguments, waits)
            try:
                self._durability.check(waited, reply)
            except ReplicasMissingError:
                # The server may have been replaced without knowing it: the next try asks anew which one it is.
                self._redis.connection_pool.disconnect(inuse_connections=False)
                if time.monotonic() + pause_s >= give_up_at:
                    raise
                # A replica that has left is told of at once: no wait of the server's sets the pace then.
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.5)
            else:
                return reply

    def _run_once(self, called: Script, arguments: Sequence[Any], waits: Sequence[Command]) -> tuple[Any, list[Any]]:
        """Run a transition and then `waits`, over one connection; returns its reply and theirs."""
        for repetitions in range(MOST_REPETITIONS + 1):
            if loading := self._caller.loading():
                with self._redis.pipeline(transaction=False) as pipe:
                    for command in loading:
                        pipe.execute_command(*command)
                    self._caller.note_loaded(pipe.execute(raise_on_error=False))
            call = self._caller.command(called, arguments)
            try:
                if not waits:
                    return self._redis.execute_command(*call), []
                with self._redis.pipeline(transaction=False) as pipe:
                    for command in (call, *waits):
                        pipe.execute_command(*command)
                    reply, *waited = pipe.execute(raise_on_error=False)
                if isinstance(reply, Exception):
                    raise reply
                return reply, waited
            except ResponseError as exc:
                if not self._caller.is_missing(exc) or repetitions == MOST_REPETITIONS:
                    raise
        raise AssertionError("the last repetition returns or raises")

    def cancel_waiting(self, group: str, message: str) -> int:
        """Cancel all tasks that wait in a group now; returns how many. Raises `StoreUnavailableError`."""
        cancelled = 0
        with _reached():
            while ids := self._redis.zrange(keys.waiting(group), 0, _CANCELLED_AT_ONCE - 1):
                # The first call also makes the server know the script. To cancel its task once more changes nothing.
                self._run("cancel", *self._limits, ids[0], message)
                waits = self._durability.waits_for(["cancel"])
                with self._redis.pipeline(transaction=False) as pipe:
                    for task_id in ids:
                        pipe.execute_command(*self._caller.command(script("cancel"), [*self._limits, task_id, message]))
                    for command in waits:
                        pipe.execute_command(*command)
                    replies = pipe.execute()
                self._durability.check(replies[len(ids) :], replies)
                ended = sum(after == b"CANCELLED" for _, after in replies[: len(ids)])
                if not ended:
                    break
                cancelled += ended
        return cancelled

    def own_groups(self, app: str, groups: Iterable[str]) -> None:
        """Note that these groups are of a Celery app (see `owners.py`); raises `StoreUnavailableError`."""
        for_ms = round(self._settings[True].group_ownership * 1000)
        with _reached():
            _run(self._redis, script("note"), 1, keys.OWNERS, for_ms, MOST_OWNED, *owner_notes(app, groups))

    def put_back(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Put messages back, each to the end of its list that is read next; raises `StoreUnavailableError`."""
        with _reached(), self._redis.pipeline(transaction=False) as pipe:
            for name, message in messages:
                pipe.rpush(name, message)
            pipe.execute()

    def find(self, task_id: str) -> Task | None:
        """Return the record, or None if there is none; raises `StoreUnavailableError`."""
        if keys.record_of_nobody(task_id):
            return None
        with _reached():
            return _task_from(task_id, self._reader.hgetall(keys.task(task_id)))

    def find_with(self, wanted: Sequence[tuple[str, str | bytes]]) -> list[tuple[Task | None, bytes | None]]:
        """Return the record of each task and the value of the key named with it, None for what does not exist.

        Raises `StoreUnavailableError`.
        """
        with _reached(), self._reader.pipeline(transaction=False) as pipe:
            for task_id, key in wanted:
                pipe.hgetall("" if keys.record_of_nobody(task_id) else keys.task(task_id))
                pipe.get(key)
            replies = iter(pipe.execute())
        return [(_task_from(task_id, next(replies)), next(replies)) for task_id, _ in wanted]

    def traceback_of(self, task_id: str, attempt: int) -> str:
        """Return the traceback with which an attempt failed, "" if the log has none; raises `StoreUnavailableError`."""
        with _reached():
            entries = self._reader.xrevrange(keys.log(task_id), count=_LAST_LINES)
        for entry_id, fields in entries:
            line = log_line_from_entry(entry_id.decode(), {k.decode(): v.decode() for k, v in fields.items()})
            if line.message == ATTEMPT_FAILED and line.attempt == attempt:
                return str(line.data.get("traceback", ""))
        return ""


def _answer(reply: bytes | str | Sequence[Any]) -> str | list[str]:
    """Return an answer to a submission with texts for bytes."""
    if isinstance(reply, bytes | str):
        return _texts([reply])[0]
    return _texts(reply)


def _texts(reply: Sequence[Any]) -> list[str]:
    return [part.decode() if isinstance(part, bytes) else part for part in reply]


def _task_from(task_id: str, found: Mapping[bytes, bytes]) -> Task | None:
    record = {name.decode(): value.decode() for name, value in found.items()}
    return task_from_hash({"task_id": task_id, **record}) if "status" in record else None


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    """Raise `StoreUnavailableError` for the driver's errors inside this block."""
    try:
        yield
    except (DataError, StoreUnavailableError):
        raise  # a fault of the caller, or what it shall hear
    except (RedisError, OSError) as exc:
        raise StoreUnavailableError(described(exc)) from exc


def pop_messages(client: Any, lists: Sequence[str], count: int) -> list[bytes]:
    """Take up to `count` messages from Celery's lists of one queue, first served first, through kombu's client."""
    popped: list[bytes] = _run(client, script("pop"), len(lists), *lists, count)
    return popped


def beginnings(client: Any, task_ids: Sequence[str], shown_bytes: int) -> dict[str, str]:
    """Return the beginnings of the payloads of tasks that have a record, without secrets, through kombu's client."""
    found = {}
    names = [keys.task(task_id) for task_id in task_ids]
    for task_id, row in zip(task_ids, _run(client, script("previews"), len(names), *names, shown_bytes), strict=True):
        if row:
            # A character may be cut in two.
            found[task_id] = (row[_PAYLOAD] or b"").decode(errors="ignore")
    return found


def _run(client: Any, called: Script, count: int, *arguments: Any) -> Any:
    """Run a script; the first `count` of its arguments are keys."""
    # A client of kombu knows the prefix too, but puts it in front of the first key only.
    prefix = getattr(client, "global_keyprefix", "")
    words = [count, *(f"{prefix}{key}" for key in arguments[:count]), *arguments[count:]]
    execute: Any = partial(redis.Redis.execute_command, client)
    try:
        return execute("EVALSHA", called.sha, *words)
    except NoScriptError:
        return execute("EVAL", called.source, *words)
