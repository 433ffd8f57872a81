"""When what a call has written counts as kept: on the server's disk, or with enough replicas.

`durability` says which. The commands that wait for it end the pipeline of the calls, so one wait covers a whole round
trip, and it goes over the connection that wrote: a server counts from that connection's last write.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.errors import NotReplicatedError, StoreUnavailableError
from celeriac.settings import StoreSettings
from celeriac.store import keys
from celeriac.store.server.companions import Companions
from celeriac.store.server.pipeline import Command

log = logging.getLogger(__name__)

#: How long the disk may take (ms).
_DISK_MS: Final = 5000

#: Transitions that accept tasks, or accept them again. With `fsync` their callers are answered when it is on the disk.
ACCEPTING: Final = frozenset({"submit", "plan", "again", "replace", "retry", "retry_workflow"})

#: Transitions that neither accept, claim nor end a task for a caller who relies on it. They report (what is lost is
#: said again, or is out of date), or roles run them, which find what is left to do after a failover as after a crash.
UNCONFIRMED: Final = frozenset(
    {
        *("progress", "delta", "log", "renew", "remote_presence"),
        *("promote", "reap", "sweep", "fold_counts", "mend_rules", "steer", "watch_external", "release"),
        *("outgoing", "take_untold", "told"),
    }
)

#: Written before each wait. A repeated call may find its work done and write nothing; then a server of version 7.2 or
#: later would not wait for the first call's writes, which went over another connection. Nobody listens to it, and it
#: reaches replicas but no file.
_MARK: Final[Command] = ("PUBLISH", keys.confirmed(), "1")


class ReplicasMissingError(NotReplicatedError):
    """Too few replicas have what was written; `answer` is what the server answered nevertheless.

    It is the list of the replies of a pipeline, or the answer to one call.
    """

    def __init__(self, message: str, answer: Any) -> None:
        super().__init__(message)
        self.answer = answer

    def about(self, answer: Any) -> ReplicasMissingError:
        """Return the error of one call of the pipeline, which has this answer."""
        return ReplicasMissingError(str(self), answer)

    def of(self, *, task_id: str | None = None, workflow_id: str | None = None) -> NotReplicatedError:
        """Return the error for the caller who has submitted this."""
        what = f"task {task_id}" if task_id else f"workflow {workflow_id}"
        return NotReplicatedError(
            f"{self}. It is stored as {what}: submit it again with the same Idempotency-Key to know that it stays",
            task_id=task_id,
            workflow_id=workflow_id,
        )


class Durability:
    """What the settings promise of a call that has been answered."""

    def __init__(self, settings: StoreSettings) -> None:
        self._fsync = settings.durability == "fsync"
        self._replicas = settings.durability_replicas if settings.durability == "replicated" else 0
        self._replicas_ms = max(round(settings.durability_timeout * 1000), 1)  # 0 would wait for ever
        self._companions = Companions(settings.durability_failover)

    @property
    def may_take_s(self) -> float:
        """The longest that a wait takes without any fault (seconds)."""
        if self._fsync:
            return _DISK_MS / 1000
        return self._replicas_ms / 1000 if self._replicas else 0.0

    @property
    def confirming(self) -> list[Command]:
        """The commands that wait until replicas have all that the server has; none if no answer waits for replicas."""
        return [_MARK, ("WAIT", self._replicas, self._replicas_ms), self._companions.look] if self._replicas else []

    def warn_of(self, info: Mapping[str, Any]) -> None:
        """Log that the server has fewer replicas than an answer needs; `info` is its INFO."""
        found = int(info.get("connected_slaves", 0))
        if found < self._replicas:
            log.warning(
                "durability is replicated, and the store has %d of %d replicas: it accepts no task without them",
                found, self._replicas,
            )  # fmt: skip

    def covers(self, name: str) -> bool:
        """Return whether the answer of this script waits."""
        return name in ACCEPTING if self._fsync else self._replicas > 0 and name not in UNCONFIRMED

    def waits_for(self, names: Iterable[str]) -> list[Command]:
        """Return the commands that end the pipeline of these scripts; none if nothing is waited for."""
        if not any(map(self.covers, names)):
            return []
        return [_MARK, ("WAITAOF", 1, 0, _DISK_MS)] if self._fsync else self.confirming

    def check(self, waited: Sequence[Any], replies: list[Any]) -> None:
        """Raise the error that the replies to the waiting commands tell, if there are any; `replies` are the others.

        Raises `ReplicasMissingError`, `StoreUnavailableError`, and redis-py's errors for a lost connection.
        """
        for reply in waited:
            if isinstance(reply, RedisConnectionError | RedisTimeoutError | OSError):
                raise reply
        if not waited:
            return
        if self._fsync:
            _check_disk(waited[-1])
            return
        kept, looked = waited[-2:]
        for refused in (reply for reply in (kept, looked) if isinstance(reply, BaseException)):
            raise StoreUnavailableError(
                f"durability is replicated, but the server refuses WAIT, or INFO in a script: {refused}"
            )
        away_s = self._companions.away_s(looked, time.monotonic())
        if kept < self._replicas:
            raise ReplicasMissingError(
                f"durability is replicated, but {kept} of {self._replicas} replicas had this in time"
                f" ({self._replicas_ms} ms, setting durability_timeout): check the replicas of the store's primary",
                replies,
            )
        if away_s is not None:
            raise ReplicasMissingError(
                f"durability is replicated, and a replica has left the store's primary {away_s:.1f} s ago: if it was"
                " promoted, what is written here is lost. Without a failover, the store accepts again when it has been"
                " away for as long as one takes (setting durability_failover)",
                replies,
            )

    def told(self, missing: ReplicasMissingError, names: Sequence[str]) -> list[Any]:
        """Return the replies of a pipeline of batching scripts, with an error for each item that is not replicated."""
        return [
            [missing.about(answer) for answer in reply]
            if self.covers(name) and not isinstance(reply, Exception)
            else reply
            for name, reply in zip(names, missing.answer, strict=True)
        ]


def _check_disk(reply: Any) -> None:
    if isinstance(reply, BaseException):
        raise StoreUnavailableError(
            f"durability is fsync, but the server has no WAITAOF command; use Redis or Valkey 7.2 or later: {reply}"
        )
    if reply[0] < 1:
        raise StoreUnavailableError(
            "durability is fsync, but the server's append-only file did not reach the disk in time; if its"
            " appendfsync is `no`, set it to everysec or always (for the store of `celeriac up`: start `up` with this"
            " durability too)"
        )
