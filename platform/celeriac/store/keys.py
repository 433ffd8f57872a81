"""Every Redis key and channel, as a function. `lua/shared/keys.lua` builds the same ones; a test compares them."""

from __future__ import annotations

from typing import Final

EVENTS: Final = "celeriac:events"
SEQ: Final = "celeriac:seq"
GROUPS: Final = "celeriac:groups"
LEASES: Final = "celeriac:leases"
DELAYED: Final = "celeriac:delayed"
EXPIRING: Final = "celeriac:expiring"
WORKERS: Final = "celeriac:workers"
#: Hash: the server's run id as the reaper last saw it, and since when.
SERVER: Final = "celeriac:server"
TYPES: Final = "celeriac:types"
#: Hash: the recorders' notes (see `feed.py`). String beside it: who resynchronises now.
LEDGER: Final = "celeriac:ledger"
LEDGER_RESYNC: Final = "celeriac:ledger:resync"
#: Channel: the id of each running task that somebody asked to cancel.
CANCELS: Final = "celeriac:cancels"
#: List of ids for external processors (docs/task-service.md).
EXTERNAL: Final = "task:pending"
#: List of the ids whose messages are to be published through a broker other than Redis.
OUTBOX: Final = "celeriac:outbox"
#: Hash: what happened, counted (see `counts.py`).
COUNTS: Final = "celeriac:counts"
#: Hash: the groups that are paused, with when and why (JSON). Beside it: the groups that go on, with the score in
#: the waiting index up to which messages have been sent.
PAUSED: Final = "celeriac:paused"
RESUMING: Final = "celeriac:resuming"
#: Hash: what groups are limited to (JSON). Sorted set beside it: groups that are to be looked at, by when (ms).
LIMITS: Final = "celeriac:limits"
LIMITS_DUE: Final = "celeriac:limits:due"
#: Sorted set: tasks that a foreign program may have in hand, by when they were handed to it.
WATCHED: Final = "celeriac:external"
#: Sorted set: remote tasks that must have ended by a time, by that time.
DEADLINES: Final = "celeriac:deadlines"
#: Sorted set: `GROUP/MODEL` of what connected remote workers serve, by how long that counts.
MODELS: Final = "celeriac:models"
#: String: the process that shows remote workers to Celery's monitors.
MIRROR: Final = "celeriac:mirror"


def task(task_id: str) -> str:
    """Hash: the record (the fields of docs/task-service.md and more)."""
    return f"task:{task_id}"


def task_events(task_id: str) -> str:
    """Stream: what happened to the task."""
    return f"celeriac:events:{task_id}"


def checkpoint(task_id: str) -> str:
    """String: where a task of several steps is."""
    return f"celeriac:checkpoint:{task_id}"


def live(task_id: str) -> str:
    """Channel: the stream id of each new event of the task."""
    return f"celeriac:live:{task_id}"


def log(task_id: str) -> str:
    """Stream: the lines that the task's attempts logged. It lives as long as the record."""
    return f"celeriac:log:{task_id}"


def live_log(task_id: str) -> str:
    """Channel: something was added to the task's log."""
    return f"celeriac:live-log:{task_id}"


def waiting(group: str) -> str:
    """Sorted set: the ids that wait in the group, next first."""
    return f"celeriac:waiting:{group}"


def running(group: str) -> str:
    """Sorted set: the ids that run, by start in milliseconds."""
    return f"celeriac:running:{group}"


def group(name: str) -> str:
    """Hash: facts of the group (how far its lists were consumed)."""
    return f"celeriac:group:{name}"


def worker(worker_id: str) -> str:
    """Hash: a worker's presence; expires by itself."""
    return f"celeriac:worker:{worker_id}"


def feed(user_id: str) -> str:
    """Stream: what happened to a user's tasks. Channel of the same name: something was added."""
    return f"celeriac:feed:{user_id}"


def active(user_id: str) -> str:
    """Sorted set: a user's tasks that have not ended, by when they came (milliseconds)."""
    return f"celeriac:active:{user_id}"


def recent(user_id: str) -> str:
    """Sorted set: a user's tasks that have ended, by when (milliseconds)."""
    return f"celeriac:recent:{user_id}"


def api_keys() -> str:
    """Hash: the API keys, by id. No transition touches it."""
    return "celeriac:api-keys"


def remote(group: str) -> str:
    """Sorted set: the ids of remote tasks that wait in the group, next first."""
    return f"celeriac:remote:{group}"


def limited(group: str) -> str:
    """Sorted set: the waiting ids that a limit of the group holds, which have no message; next first."""
    return f"celeriac:limited:{group}"


def remote_wake(group: str) -> str:
    """Channel: a remote task of the group waits."""
    return f"celeriac:remote-wake:{group}"


def gateways(group: str) -> str:
    """Sorted set: the processes that hold remote workers of the group, by how long that counts."""
    return f"celeriac:gateways:{group}"


def granted(gateway: str) -> str:
    """String: the number of a process's last claim for remote workers."""
    return f"celeriac:granted:{gateway}"


def replies(process: str) -> str:
    """Channel: how the tasks ended, and what parts of results came, that the process waits for."""
    return f"celeriac:replies:{process}"


def audit() -> str:
    """Stream: who did what. No transition touches it."""
    return "celeriac:audit"


def idempotency(scope: str, key: str) -> str:
    """String: the task that was made under this idempotency key of this user."""
    # The length keeps apart what two users could spell alike with colons.
    return f"celeriac:idempotency:{len(scope)}:{scope}:{key}"


#: What group names must not begin with: each group's Celery list is a key of its bare name.
_RESERVED: Final = ("celeriac:", "task:", "unacked", "_kombu")


def reserved(group: str) -> bool:
    """Whether the list of a group of this name would meet keys of ours or of kombu."""
    return group.startswith(_RESERVED)


def record_of_nobody(task_id: str) -> bool:
    """Whether a record of this id cannot exist, since its key is another one of ours."""
    return task(task_id) == EXTERNAL
