"""The life cycle: every change of a task is one of these calls, each one atomic script on the server.

Calls may be repeated safely (the reply of the first may have been lost): a submission carries a
nonce, a claim its fence, a report its number. So a store that is away for a moment is waited for,
and only then `StoreUnavailableError` is raised.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, TypeVar

import orjson
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.errors import (
    ChangedTaskError,
    IllegalTransitionError,
    InvalidSubmissionError,
    NoWorkerError,
    QueueFullError,
    SettingsError,
    StaleClaimError,
    StoreUnavailableError,
    TaskNotFoundError,
    Violation,
)
from celeriac.live import keys
from celeriac.live.coalescer import Coalescer
from celeriac.live.line import Command, Line
from celeriac.live.records import pause_from_json, status_of, task_from_hash, worker_from_hash
from celeriac.live.scripts import Script, every_transition, script
from celeriac.model import (
    Claim,
    Delivery,
    Event,
    Failure,
    GroupStats,
    LeaseState,
    Pause,
    Progress,
    Refusal,
    RemoteOrders,
    Status,
    Submission,
    Submitted,
    Task,
    WorkerInfo,
    utc_from_ms,
)
from celeriac.settings import Settings

T = TypeVar("T")

#: Sends commands at once and returns their answers, an error of the server as a value.
Exchange = Callable[[Sequence[Command]], Awaitable[list[Any]]]

log = logging.getLogger(__name__)

#: Oldest server whose commands and scripts suffice.
MIN_VERSION: Final = (6, 2)
#: Longest text of a message that is kept with progress or an error (characters).
MAX_TEXT: Final = 8192
#: Longest time to the next attempt (ms): ten years, far inside what a calendar can write.
MAX_DELAY_MS: Final = 10 * 366 * 86_400_000

#: Tasks that one step of a resumption looks at.
_RESUMED_AT_ONCE: Final = 500

#: No task can have this id: its record's key is the list of external processors (contract 2).
RESERVED_ID: Final = "pending"

_TRANSIENT = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)


class OutgoingMessage(NamedTuple):
    """A message for a broker other than Redis; `envelope` is as kombu's virtual transports write it."""

    group: str
    priority: int
    envelope: str


class TaskStore:
    """A process's connection to the life cycle; belongs to one event loop.

    `patience_s` is how long a call waits for a store that is away (default: `settings.store_timeout`).
    """

    def __init__(self, url: str, settings: Settings, *, patience_s: float | None = None) -> None:
        self.settings = settings
        self._patience_s = settings.store_timeout if patience_s is None else patience_s
        # Untyped: redis-py's annotations do not know that replies are decoded here.
        # Retries are ours: they know what may be repeated and for how long.
        self.redis: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=2,
            socket_timeout=10,
            socket_keepalive=True,
            health_check_interval=0,
            max_connections=64,
            # Half a surrogate pair in one text (a file name, say) must not fail all that travels with it.
            encoding_errors="replace",
        )
        self._limits = limit_arguments(settings)
        self._common: dict[str, list[Any]] = {
            "submit": submit_leading_arguments(settings),
            "claim": [round(settings.lease * 1000)],
            "notify": [
                round(settings.lease * 1000),
                round(settings.notifications.silence * 1000),
                round(settings.notifications.start_within * 1000),
                settings.queue_limit(settings.notifications.group),
            ],
            "claim_remote": [round(settings.lease * 1000)],
            "delta": [settings.dispatch.max_delta_bytes],
            "remote_presence": [round(settings.dispatch.presence * 1000), round(settings.lease * 1000)],
        }
        #: What batches go through: one at a time, so that they need no pool.
        self._line = Line(self.redis.connection_pool)
        self._coalescer = Coalescer(run=self._run_batches, common=self._leading)
        self._fsync = settings.durability == "fsync"
        self._nonce = secrets.token_hex(8)
        self._calls = 0
        #: Whether the server has our scripts, as far as we know.
        self._loaded = False

    async def start(self) -> None:
        """Check that the server is there and can keep what it is given; raises `SettingsError` if it cannot."""
        info: dict[str, Any] = await self._patiently(lambda: self.redis.info())
        version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
        if version < MIN_VERSION:
            raise SettingsError(f"redis_url: the server is version {info.get('redis_version')}; 6.2 or later is needed")
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise SettingsError(
                f"redis_url: the server's maxmemory-policy is {policy!r}, so it may throw accepted tasks away;"
                " set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
            )
        if not info.get("aof_enabled"):
            log.warning(
                "the store writes no append-only file: accepted tasks are lost when it dies (set appendonly yes)"
            )

    async def stop(self) -> None:
        """Let what is on its way arrive, then disconnect. Idempotent."""
        await self._coalescer.drain()
        await self._line.close()
        await self.redis.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the server answers at once."""
        try:
            await self.redis.ping()
        except (RedisError, OSError) as exc:
            raise StoreUnavailableError(_away(exc)) from exc

    # --- front doors

    async def submit(self, submission: Submission) -> Submitted:
        """Store a submission; it is durable when this returns.

        Raises `QueueFullError`, or `InvalidSubmissionError` where its id or group is the key of something else.
        """
        arguments = submission_arguments(submission, self.settings, self.unique())
        return submitted(submission, await self._coalescer.call(script("submit"), *arguments))

    async def get(self, task_id: str) -> Task:
        """Return the record; raises `TaskNotFoundError`."""
        if keys.record_of_nobody(task_id):
            raise TaskNotFoundError(task_id)
        record = await self._patiently(lambda: self.redis.hgetall(keys.task(task_id)))
        if "status" not in record:
            raise TaskNotFoundError(task_id)
        return task_from_hash({"task_id": task_id, **record})

    async def owner(self, task_id: str) -> tuple[bool, str | None]:
        """Return whether there is a task of this id, and whose it is (None: nobody's)."""
        if keys.record_of_nobody(task_id):
            return False, None
        status, user_id = (await self.read(("HMGET", keys.task(task_id), "status", "user_id")))[0]
        return status is not None, user_id or None

    async def cancel(self, task_id: str, message: str = "cancelled before it ran") -> Status:
        """Cancel; a waiting task is CANCELLED at once, a running one answers PROCESSING and stops soon."""
        before, after = ("", "") if keys.record_of_nobody(task_id) else await self._one("cancel", task_id, message)
        if not before:
            raise TaskNotFoundError(task_id)
        if before in (Status.COMPLETED, Status.FAILED):
            raise IllegalTransitionError(task_id, before, "cancel")
        return Status(after)

    async def retry(
        self,
        task_id: str,
        *,
        payload: str | None = None,
        rev: int | None = None,
        kept: Mapping[str, str] | None = None,
        nonce: str | None = None,
    ) -> Status:
        """Run a failed or cancelled task again with its attempts granted anew; returns PENDING.

        `payload` (a JSON object) replaces the one it has. `kept` is its record as somebody kept it, for a
        task that the store has let go. With `rev`, a task that changed since it had this revision is left
        alone: `ChangedTaskError`. Calls of one `nonce` count once.
        """
        if keys.record_of_nobody(task_id):
            raise TaskNotFoundError(task_id)
        group, delivery = await self._patiently(lambda: self.redis.hmget(keys.task(task_id), "queue", "delivery"))
        if not group and kept is not None:
            group, delivery = kept.get("queue"), kept.get("delivery")
        if not group:
            raise TaskNotFoundError(task_id)
        limit = self.settings.queue_limit(group, remote=delivery == Delivery.REMOTE)
        before = await self._one(
            "retry",
            task_id,
            limit,
            nonce or self.unique(),
            payload or "",
            "" if rev is None else rev,
            orjson.dumps([part for pair in kept.items() for part in pair]).decode() if kept else "",
        )
        if not before:
            raise TaskNotFoundError(task_id)
        if before == "queue_full":
            raise QueueFullError(group, limit)
        if before == "changed":
            raise ChangedTaskError(task_id)
        if before == "celery":
            message = "plain Celery published this task with its arguments: publish another one instead"
            raise InvalidSubmissionError([Violation("payload", message)])
        if before == "notified":
            message = "the program that reported this task ran it by itself: run that program again instead"
            raise InvalidSubmissionError([Violation("task_id", message)])
        if before not in (Status.FAILED, Status.CANCELLED):
            raise IllegalTransitionError(task_id, before, "retry")
        return Status.PENDING

    async def known(self, task_ids: Sequence[str]) -> list[bool]:
        """Return for each id whether the store holds a record of it."""
        return [bool(found) for found in await self.read(*(("EXISTS", keys.task(task_id)) for task_id in task_ids))]

    async def checkpoint(self, task_id: str) -> str | None:
        """Return what the last attempt of a task noted about where it is, or None."""
        return (await self.read(("GET", keys.checkpoint(task_id))))[0] or None

    async def set_checkpoint(self, task_id: str, text: str) -> None:
        """Note where a task is, for an attempt that goes on after this one died; kept for the record's retention."""
        kept_ms = max(round(self.settings.retention * 1000), 7 * 86_400_000)
        await self.read(("SET", keys.checkpoint(task_id), text, "PX", kept_ms))

    async def position(self, task: Task) -> int | None:
        """Return the place in its group's queue, 1 being next; None unless it is waiting there."""
        remote = task.extra.get("delivery") == Delivery.REMOTE
        index = keys.remote(task.group) if remote else keys.waiting(task.group)
        rank = await self._patiently(lambda: self.redis.zrank(index, task.task_id))
        return None if rank is None else rank + 1

    async def remove(self, task_id: str, *, user_id: str) -> None:
        """Remove the record of a user's task that has ended; raises `TaskNotFoundError`, `IllegalTransitionError`."""
        reply = "" if keys.record_of_nobody(task_id) else await self._one("remove", task_id, user_id)
        if not reply:
            raise TaskNotFoundError(task_id)
        if reply != "ok":
            raise IllegalTransitionError(task_id, reply, "remove")

    # --- executors

    async def claim(self, task_id: str, *, worker: str) -> Claim | Refusal:
        """Claim a waiting task for its next attempt; of any number of calls one is granted."""
        if keys.record_of_nobody(task_id):
            return Refusal(task_id, "unknown")
        fence = self.unique()
        reply = await self._coalescer.call(script("claim"), task_id, worker, fence)
        if reply[0] != "go":
            return Refusal(task_id, reply[1].lower())
        return _claim(task_id, fence, reply[1:])

    def report(self, claim: Claim, seq: int, progress: Progress) -> asyncio.Future[str]:
        """Send a report on its way, in the order of the calls; the future gets `lua/progress.lua`'s answer."""
        return self._coalescer.call(
            script("progress"),
            claim.task_id,
            claim.fence,
            seq,
            number_text(progress.percentage),
            progress.stage[:MAX_TEXT],
            progress.message[:MAX_TEXT],
            progress.timestamp_ms,
        )

    async def progress(self, claim: Claim, seq: int, progress: Progress) -> bool:
        """Record a report; `seq` counts from 1 within the attempt. Returns whether a cancel was asked for."""
        reply = await self.report(claim, seq, progress)
        _check_claim(claim, reply)
        return reply == "cancel"

    async def complete(self, claim: Claim, result_json: str, result_file_path: str = "") -> None:
        """End the attempt with a result, and the file that it is in if it is; raises `StaleClaimError`."""
        reply = await self._coalescer.call(
            script("complete"), claim.task_id, claim.fence, result_json, result_file_path
        )
        _check_claim(claim, reply)

    async def fail(self, claim: Claim, failure: Failure, delay_ms: int) -> Status:
        """End the attempt as failed; returns RETRYING, FAILED or CANCELLED."""
        reply = await self._coalescer.call(
            script("fail"),
            claim.task_id,
            claim.fence,
            failure.code,
            failure.message[:MAX_TEXT],
            "1" if failure.retryable else "0",
            min(max(delay_ms, 0), MAX_DELAY_MS),
        )
        _check_claim(claim, reply)
        return Status(reply)

    async def amend(self, claim: Claim, *, payload: str, body: str, attempts_allowed: int) -> None:
        """Change what the attempts after this one get: payload (JSON), body of the kept message (base64), limit."""
        _check_claim(claim, await self._one("amend", claim.task_id, claim.fence, payload, body, attempts_allowed))

    async def settle_cancelled(self, claim: Claim, message: str = "cancelled while it ran") -> None:
        """End the attempt as cancelled."""
        _check_claim(claim, await self._one("settle_cancelled", claim.task_id, claim.fence, message))

    async def release(self, claim: Claim) -> Status:
        """Give the task back to the front of its group; the attempt does not count."""
        reply = await self._one("release", claim.task_id, claim.fence)
        _check_claim(claim, reply)
        return Status(reply)

    async def renew(
        self, worker: str, claims: Sequence[Claim], facts: Mapping[str, str] | None = None
    ) -> list[LeaseState]:
        """Renew a worker's presence (`facts` are shown to operators) and the leases of `claims`, in their order."""
        lease_ms = round(self.settings.lease * 1000)
        pairs = [part for pair in (facts or {}).items() for part in pair]
        arguments = [part for claim in claims for part in (claim.task_id, claim.fence)]
        replies = await self._one(
            "renew", lease_ms, worker, lease_ms, orjson.dumps(pairs).decode() if pairs else "", *arguments
        )
        return [LeaseState(reply) for reply in replies]

    async def retire(self, worker: str) -> None:
        """Take a worker off the list: it ended in good order."""
        await self._patiently(lambda: self.redis.delete(keys.worker(worker)))
        await self._patiently(lambda: self.redis.zrem(keys.WORKERS, worker))

    async def announce_types(self, types: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell front doors which task types the workers of this installation run."""
        if types:
            encoded = {name: orjson.dumps(facts).decode() for name, facts in types.items()}
            await self._patiently(lambda: self.redis.hset(keys.TYPES, mapping=encoded))

    # --- background roles

    async def promote(self, limit: int = 500) -> tuple[int, int | None]:
        """Move what is due to its groups; returns how many moved and the ms until the next one is due."""
        moved, next_ms = await self._one("promote", limit)
        return int(moved), None if int(next_ms) < 0 else int(next_ms)

    async def reap(self, limit: int = 500, *, grace_s: float = 0.0) -> tuple[int, int, int]:
        """Take back expired leases and end what expired; returns (returned, failed, expired).

        Leases are left alone for `grace_s` after the first call that meets a newly started server.
        """
        returned, failed, expired = await self._one("reap", limit, round(grace_s * 1000))
        return int(returned), int(failed), int(expired)

    async def sweep(self, group: str, *, limit: int = 200, broker_empty: bool | None = None) -> list[str]:
        """Send lost messages of a group again; returns the ids.

        `broker_empty` is for a broker other than Redis: whether it holds no message for this group.
        """
        grace_ms = round(self.settings.hint_grace * 1000)
        empty = "" if broker_empty is None else "1" if broker_empty else "0"
        return [str(i) for i in await self._one("sweep", group, grace_ms, limit, empty)]

    async def pause(self, group: str, note: str = "") -> Pause:
        """Hold a group back: its tasks are accepted and wait, what runs goes on. Paused again, it gets the new note."""
        if keys.reserved(group):
            raise InvalidSubmissionError(
                [Violation("group", f"a group cannot be named {group!r}: the name is reserved")]
            )
        noted = orjson.dumps({"note": note[:MAX_TEXT]}).decode()
        return Pause(utc_from_ms(int(await self._one("pause", group, noted))), note[:MAX_TEXT])

    async def resume(self, group: str, *, steps: int = 20) -> bool:
        """Let a paused group go on; returns whether it was paused.

        Messages of what waits are sent in order, in `steps` steps of some hundred; the sweepers do the rest.
        """
        was, _, more = await self._one("resume", group, "1", _RESUMED_AT_ONCE)
        for _ in range(steps - 1):
            if not int(more):
                break
            _, _, more = await self._one("resume", group, "", _RESUMED_AT_ONCE)
        return bool(int(was))

    async def carry_on(self) -> int:
        """Send the messages that resumed groups still lack; returns how many it sent."""
        total = 0
        for group in await self._patiently(lambda: self.redis.hkeys(keys.RESUMING)):
            more = 1
            while more:
                _, sent, more = (int(n) for n in await self._one("resume", group, "", _RESUMED_AT_ONCE))
                total += sent
        return total

    # --- a broker other than Redis

    async def take_outgoing(self, limit: int, *, wait_s: float) -> list[str]:
        """Take up to `limit` ids from the outbox; waits up to `wait_s` for the first."""
        ids = await self._patiently(lambda: self.redis.rpop(keys.OUTBOX, limit))
        if ids:
            return [str(task_id) for task_id in ids]
        found = await self._patiently(lambda: self.redis.brpop(keys.OUTBOX, timeout=wait_s))
        return [str(found[1])] if found else []

    async def outgoing_messages(self, ids: Sequence[str]) -> list[OutgoingMessage]:
        """Return the messages of those that still wait."""
        found = await self._one("outgoing", *ids)
        return [OutgoingMessage(group, int(priority), envelope) for group, priority, envelope in found]

    async def return_outgoing(self, ids: Sequence[str]) -> None:
        """Put ids back that could not be published, to be taken next."""
        await self._patiently(lambda: self.redis.rpush(keys.OUTBOX, *reversed(ids)))

    async def watch_external(self, limit: int, offset: int) -> tuple[int, int]:
        """Follow what foreign programs wrote into records; returns (changes seen, tasks watched).

        Looks at the `limit` oldest of their tasks and at `limit` more from the rank `offset` on.
        """
        changes, watched = await self._one("watch_external", limit, offset)
        return int(changes), int(watched)

    # --- reading

    async def made_under(self, user_id: str | None, idempotency_key: str) -> Submitted | None:
        """Return the task that was made under this key, or None; a submission with the key decides anew."""
        key = keys.idempotency(user_id or "", idempotency_key)
        task_id = await self._patiently(lambda: self.redis.get(key))
        if task_id is None:
            return None
        status = await self._patiently(lambda: self.redis.hget(keys.task(task_id), "status"))
        return None if status is None else Submitted(task_id, status_of(status), created=False)

    async def events(self, task_id: str, after: str = "-", count: int = 500) -> list[Event]:
        """Return up to `count` events after the stream id `after` (exclusive; `-` is from the first held)."""
        start = "-" if after == "-" else f"({after}"
        entries = await self._patiently(lambda: self.redis.xrange(keys.task_events(task_id), start, "+", count))
        return [Event(entry_id, fields.pop("kind", ""), fields) for entry_id, fields in entries]

    async def event_bounds(self, task_id: str) -> tuple[str | None, str | None]:
        """Return the ids of the first and the last event held, None where there is none."""
        key = keys.task_events(task_id)
        first, last = await self.read(("XRANGE", key, "-", "+", "COUNT", 1), ("XREVRANGE", key, "+", "-", "COUNT", 1))
        return (first[0][0] if first else None, last[0][0] if last else None)

    async def group_names(self) -> list[str]:
        """Return the groups that ever had a task, sorted."""
        return sorted(await self._patiently(lambda: self.redis.smembers(keys.GROUPS)))

    async def groups(self, *, also: Iterable[str] = ()) -> list[GroupStats]:
        """Return all groups, also those that so far only have workers, and those of `also`; sorted by name."""
        workers = await self.workers()
        names = {*await self.group_names(), *also}
        names.update(group for worker in workers for group in worker.groups if group != "*")
        return await self._group_stats(sorted(names), workers)

    async def group(self, name: str) -> GroupStats:
        """Return one group; an unknown one is empty."""
        return (await self._group_stats([name], await self.workers()))[0]

    async def _group_stats(self, names: Iterable[str], workers: Sequence[WorkerInfo]) -> list[GroupStats]:
        names = list(names)
        paused, *counts = await self.read(
            ("HGETALL", keys.PAUSED),
            *(("ZCARD", key(name)) for name in names for key in (keys.waiting, keys.remote, keys.running)),
        )
        return [
            GroupStats(
                name,
                waiting=counts[3 * i] + counts[3 * i + 1],
                running=counts[3 * i + 2],
                workers=sum(1 for worker in workers if name in worker.groups or "*" in worker.groups),
                pause=pause_from_json(paused[name]) if name in paused else None,
            )
            for i, name in enumerate(names)
        ]

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers whose presence is fresh, by id."""
        ids = sorted(await self._patiently(lambda: self.redis.zrange(keys.WORKERS, 0, -1)))
        hashes = await self.read(*(("HGETALL", keys.worker(worker_id)) for worker_id in ids))
        return [worker_from_hash(i, fields) for i, fields in zip(ids, hashes, strict=True) if fields]

    async def task_types(self) -> dict[str, dict[str, Any]]:
        """Return the types that workers announced, by name."""
        found = await self._patiently(lambda: self.redis.hgetall(keys.TYPES))
        return {name: json.loads(facts) for name, facts in found.items()}

    # --- the wire

    def batched(self, name: str, *values: Any) -> asyncio.Future[Any]:
        """Ask for one item of a batching script, for the other modules of this room."""
        return self._coalescer.call(script(name), *values)

    async def read(self, *commands: tuple[Any, ...], atomic: bool = False, errors: bool = False) -> list[Any]:
        """Run commands that may be repeated in one round trip, for the other modules of this room.

        `atomic`: nothing of others comes between them. `errors`: those of single commands are values.
        """

        async def attempt() -> list[Any]:
            async with self.redis.pipeline(transaction=atomic) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=not errors)
                return replies

        return await self._patiently(attempt) if commands else []

    async def read_over(self, line: Line, commands: Sequence[Command]) -> list[Any]:
        """Run reading commands over a line of the caller's: at half of what `read` takes for many."""

        async def attempt() -> list[Any]:
            replies = await line.exchange(commands)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

        return await self._patiently(attempt) if commands else []

    def call(self, name: str, *values: Any) -> asyncio.Future[Any]:
        """Ask for one item of a batching script, for the other modules of this room; in the order of the calls."""
        return self._coalescer.call(script(name), *values)

    def unique(self) -> str:
        """Return a text that nobody else makes."""
        self._calls += 1
        return f"{self._nonce}-{self._calls}"

    def _leading(self, called: Script) -> list[Any]:
        return [*self._limits, *self._common.get(called.name, ())]

    async def _one(self, name: str, *arguments: Any) -> Any:
        """Run a script that handles one thing, outside the batches."""
        calls = [(script(name), [*self._limits, *arguments])]
        replies = await self._patiently(lambda: self._run(calls, self._through_pool))
        if isinstance(replies[0], BaseException):
            raise replies[0]
        return replies[0]

    async def _run_batches(self, calls: Sequence[tuple[Script, list[Any]]]) -> list[Any]:
        return await self._patiently(lambda: self._run(calls, self._line.exchange))

    async def _through_pool(self, commands: Sequence[Command]) -> list[Any]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    async def _run(self, calls: Sequence[tuple[Script, list[Any]]], exchange: Exchange) -> list[Any]:
        replies = await self._pipelined(calls, exchange)
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            # Scripts were flushed, or the server restarted behind a fresh connection.
            self._loaded = False
            for i, reply in zip(missing, await self._pipelined([calls[i] for i in missing], exchange), strict=True):
                replies[i] = reply
        for i, (called, _) in enumerate(calls):
            if isinstance(replies[i], _TRANSIENT):
                raise replies[i]
            if isinstance(replies[i], ResponseError):
                replies[i] = StoreUnavailableError(f"the store refused {called.name}: {replies[i]}")
        return replies

    async def _pipelined(self, calls: Sequence[tuple[Script, list[Any]]], exchange: Exchange) -> list[Any]:
        """Run scripts in one round trip, in their order; errors of single ones are values.

        Where the server may lack scripts, all go ahead in the same pipeline: so none of them runs later than
        its place, and what is to be on disk is written before the wait for the disk.
        """
        lacking = () if self._loaded else every_transition()
        durable = self._fsync and any(called.name == "submit" for called, _ in calls)
        try:
            commands: list[Command] = [("SCRIPT", "LOAD", called.source) for called in lacking]
            commands += [("EVALSHA", called.sha, 0, *arguments) for called, arguments in calls]
            if durable:
                commands.append(("WAITAOF", 1, 0, 5000))
            replies = await exchange(commands)
        except _TRANSIENT:
            # It may come back as a new process that knows no script.
            self._loaded = False
            raise
        self._loaded = not any(isinstance(reply, Exception) for reply in replies[: len(lacking)])
        if durable:
            _check_fsync(replies.pop())
        return replies[len(lacking) :]

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, again while the store is away, for as long as our patience lasts."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
        pause_s = 0.02
        while True:
            try:
                return await attempt()
            except _TRANSIENT as exc:
                if loop.time() + pause_s >= give_up_at:
                    raise StoreUnavailableError(_away(exc)) from exc
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.5)
            except RedisError as exc:
                raise StoreUnavailableError(f"the store refused: {exc}") from exc


def limit_arguments(settings: Settings) -> list[Any]:
    """Return the arguments that every script begins with (see `lua/shared.lua`)."""
    feeds = settings.notifications
    limits = (settings.max_task_events, feeds.max_messages, round(feeds.keep * 1000), feeds.max_ended)
    return [",".join(map(str, limits)), settings.max_global_events, round(settings.retention * 1000)]


def submit_leading_arguments(settings: Settings) -> list[Any]:
    """Return what stands before the submissions in the arguments of `lua/submit.lua`, the limits apart."""
    return [round(settings.idempotency_ttl * 1000), settings.max_scheduled]


def submission_arguments(s: Submission, settings: Settings, nonce: str) -> list[Any]:
    """Return the 18 arguments of one submission (see `lua/submit.lua`).

    Raises `InvalidSubmissionError` where the id or the group is the key of something else.
    """
    if keys.record_of_nobody(s.task_id):
        raise InvalidSubmissionError([Violation("task_id", f"{s.task_id!r} is reserved")])
    if keys.reserved(s.group):
        raise InvalidSubmissionError([Violation("queue", f"a group cannot be named {s.group!r}: the name is reserved")])
    return [
        s.task_id,
        s.type,
        s.group,
        s.payload,
        s.priority,
        s.max_retries,
        _or_empty(s.delay_ms),
        _or_empty(s.run_at_ms),
        _or_empty(s.expires_in_ms),
        _or_empty(s.expires_at_ms),
        _or_empty(s.timeout_ms),
        s.user_id or "",
        orjson.dumps(s.metadata).decode() if s.metadata else "",
        keys.idempotency(s.user_id or "", s.idempotency_key) if s.idempotency_key else "",
        settings.queue_limit(s.group, remote=s.delivery is Delivery.REMOTE),
        s.delivery.value,
        _further_fields(s),
        nonce,
    ]


def _further_fields(s: Submission) -> str:
    """Return the record's further fields as a JSON array (name, value, ...), or an empty text."""
    fields = dict(s.extra)
    if s.tags:
        fields["tags"] = orjson.dumps(list(s.tags)).decode()
    if s.definition_id is not None:
        fields["definition_id"] = s.definition_id
    if s.retention_ms is not None:
        # Zero would take the record away before anybody could read the result.
        fields["retention_ms"] = str(max(s.retention_ms, 1))
    if s.remote is not None:
        fields.update(_orders(s.remote))
    return orjson.dumps([part for pair in fields.items() for part in pair]).decode() if fields else ""


def _orders(orders: RemoteOrders) -> Iterator[tuple[str, str]]:
    if orders.deadline_in_ms is not None:
        yield "deadline_in_ms", str(orders.deadline_in_ms)
    if orders.needs_worker:
        yield "needs_worker", "1"
    if orders.quiet:
        yield "quiet", "1"
    if orders.reply_to is not None:
        yield "reply_to", orders.reply_to


def submitted(submission: Submission, reply: Sequence[Any]) -> Submitted:
    """Return what `lua/submit.lua` answered; raises `QueueFullError`, `NoWorkerError` or `InvalidSubmissionError`."""
    outcome = reply[0]
    if outcome == "no_worker":
        raise NoWorkerError(submission.group)
    if outcome == "no_queue":
        message = f"a group cannot be named {submission.group!r}: the store holds something else under this key"
        raise InvalidSubmissionError([Violation("queue", message)])
    if outcome == "queue_full":
        raise QueueFullError(submission.group, int(reply[1]))
    if outcome == "schedule_full":
        raise QueueFullError("(scheduled)", int(reply[1]))
    return Submitted(task_id=reply[1], status=Status(reply[2]), created=outcome == "created")


def number_text(value: float) -> str:
    """Write a number as JSON would, whole ones without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _away(exc: BaseException) -> str:
    return f"the store cannot be reached ({type(exc).__name__}: {exc})"


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value


def _check_fsync(reply: Any) -> None:
    if isinstance(reply, _TRANSIENT):
        raise reply
    if isinstance(reply, BaseException):
        raise StoreUnavailableError(f"durability is fsync, but the server has no WAITAOF (7.2 or later): {reply}")
    if reply[0] < 1:
        raise StoreUnavailableError(
            "durability is fsync, but the server's append-only file did not reach the disk in time"
        )


def _check_claim(claim: Claim, reply: Any) -> None:
    if isinstance(reply, str) and reply.startswith("stale:"):
        raise StaleClaimError(claim.task_id, reply.removeprefix("stale:"))


def _claim(task_id: str, fence: str, fields: Sequence[Any]) -> Claim:
    (
        type_,
        group,
        payload,
        attempt,
        max_retries,
        allowed,
        user_id,
        metadata,
        timeout_ms,
        delivery,
        original,
    ) = fields
    extra = {"delivery": delivery, "original_file_path": original}
    return Claim(
        task_id=task_id,
        fence=fence,
        type=type_,
        group=group,
        payload=payload,
        attempt=int(attempt),
        max_retries=int(max_retries),
        attempts_allowed=int(allowed),
        user_id=user_id,
        metadata=orjson.loads(metadata) if metadata else {},
        timeout_ms=int(timeout_ms) if timeout_ms else None,
        extra={name: value for name, value in extra.items() if value},
    )
