"""Every Redis key and channel. `lua/shared/keys.lua` builds the same ones; a test compares them."""

from __future__ import annotations

from typing import Final

from celeriac.settings.key_prefix import RESERVED as _RESERVED

EVENTS: Final = "celeriac:events"
SEQ: Final = "celeriac:seq"
GROUPS: Final = "celeriac:groups"
#: Set: the groups that workers of all groups serve at present. Channel of the same name: a group that wakes up.
AWAKE: Final = "celeriac:awake"
#: Hash: who made a group, by its name. The hash beside it counts the groups that each of them made.
MAKERS: Final = "celeriac:makers"
MADE: Final = "celeriac:made"
LEASES: Final = "celeriac:leases"
DELAYED: Final = "celeriac:delayed"
EXPIRING: Final = "celeriac:expiring"
WORKERS: Final = "celeriac:workers"
#: Hash: the server's run id that the reaper saw last, since when it has taken writes, and when a reaper last looked.
SERVER: Final = "celeriac:server"
#: Text: the history of the server's data and the most replicas that it had (see `server/companions.py`).
COMPANIONS: Final = "celeriac:companions"
TYPES: Final = "celeriac:types"
#: Hash: the recorders' notes (see `feed.py`). The string beside it names the recorder that resynchronises now.
LEDGER: Final = "celeriac:ledger"
LEDGER_RESYNC: Final = "celeriac:ledger:resync"
#: Channel: the id of each running task whose cancellation was asked for.
CANCELS: Final = "celeriac:cancels"
#: Channel: the id of each worker that is to take no more tasks, or tasks again.
DRAINS: Final = "celeriac:drains"
#: Channel: the ends of tasks and attempts that no process shows on its terminal (see `watching/shown_ends.py`).
ENDS: Final = "celeriac:ends"
#: List of ids for external processors (docs/task-service.md).
EXTERNAL: Final = "task:pending"
#: List of the ids whose messages are to be published through a broker other than Redis.
OUTBOX: Final = "celeriac:outbox"
#: Hash: counts of what happened (see `counts.py`).
COUNTS: Final = "celeriac:counts"
#: Sets: the groups and the types that have counts of their own; those of all others are counted as `other`.
LABEL_GROUPS: Final = "celeriac:labels:groups"
LABEL_TYPES: Final = "celeriac:labels:types"
#: Hash: the paused groups, with time and note (JSON). The hash beside it has the resumed groups, with the score in the
#: waiting index up to which messages have been sent.
PAUSED: Final = "celeriac:paused"
RESUMING: Final = "celeriac:resuming"
#: Hash: the rules by name (JSON). The hash beside it has them by what they cover (`lua/shared/rules.lua`).
RULES: Final = "celeriac:rules"
RULES_OF: Final = "celeriac:rules:of"
#: Sorted set: what rules have parked is to be looked at again, as RULE and bucket, by the time for that (ms).
LIMITS_DUE: Final = "celeriac:limits:due"
#: Sorted set: the keys and groups that somebody else's service told to wait, by the time until when (ms).
CLOSED: Final = "celeriac:closed"
#: Sorted set: ended tasks of which Celery is still to be told, by the time when a worker may take them (ms). What
#: nobody took in `tell_within` leaves it.
UNTOLD: Final = "celeriac:untold"
#: Sorted set: the tasks that are WAITING, by the time since when (ms). The one beside it has ended tasks whose
#: dependants have not all heard of the end.
SUSPENDED: Final = "celeriac:suspended"
RELEASING: Final = "celeriac:releasing"
#: Sorted set: workflows whose nodes are still to be stored, cancelled or run again, by the time since when (ms).
STEERING: Final = "celeriac:steering"
#: Sorted set: the signals that tasks wait for, as `NAME ID`, by the time since when (ms).
WAITS: Final = "celeriac:waits"
#: Sorted set: tasks that an external processor may have taken, by the time when they were offered to it.
WATCHED: Final = "celeriac:external"
#: Sorted set: remote tasks with a deadline, by the deadline.
DEADLINES: Final = "celeriac:deadlines"
#: Sorted set: `GROUP/MODEL` of the models that connected remote workers serve, and `GROUP/` of their groups, by the end
#: of validity.
MODELS: Final = "celeriac:models"
#: String: the process that shows remote workers to Celery's monitors.
MIRROR: Final = "celeriac:mirror"
#: Sorted set: the groups of Celery apps (see `owners.py`), by the end of validity. The one beside it has the tasks that
#: came to a worker that does not know them (see `unknown_tasks.py`).
OWNERS: Final = "celeriac:owners"
UNKNOWN: Final = "celeriac:unknown"
#: Hash: what the relays of outboxes said last, by the outbox (JSON, see `outbox/reports.py`).
OUTBOXES: Final = "celeriac:outboxes"


def task(task_id: str) -> str:
    """Hash: the record (the fields of docs/task-service.md and more)."""
    return f"task:{task_id}"


def task_events(task_id: str) -> str:
    """Stream: what happened to the task."""
    return f"celeriac:events:{task_id}"


def checkpoint(task_id: str) -> str:
    """String: the last checkpoint of a task of several steps."""
    return f"celeriac:checkpoint:{task_id}"


def live(task_id: str) -> str:
    """Channel: `ID WHAT` of each new event, its stream id and its status or kind.

    `- stored` and a line with it: Celery stored a state of the task. `COMPLETED` may have such a line too. Without
    ` WHAT` it is of an earlier version.
    """
    return f"celeriac:live:{task_id}"


def log(task_id: str) -> str:
    """Stream: the lines that the task's attempts logged. It lives as long as the record."""
    return f"celeriac:log:{task_id}"


def live_log(task_id: str) -> str:
    """Channel: a line was added to the task's log."""
    return f"celeriac:live-log:{task_id}"


def waiting(group: str) -> str:
    """Sorted set: the ids that wait in the group, the next one first."""
    return f"celeriac:waiting:{group}"


def running(group: str) -> str:
    """Sorted set: the ids of running tasks, by their start (ms)."""
    return f"celeriac:running:{group}"


def group(name: str) -> str:
    """Hash: facts about the group (how far its lists were consumed)."""
    return f"celeriac:group:{name}"


def worker(worker_id: str) -> str:
    """Hash: the presence of a worker; it expires by itself."""
    return f"celeriac:worker:{worker_id}"


def feed(user_id: str) -> str:
    """Stream: what happened to a user's tasks. Channel of the same name: a message was added."""
    return f"celeriac:feed:{user_id}"


def active(user_id: str) -> str:
    """Sorted set: a user's tasks that have not ended, by their submission (ms)."""
    return f"celeriac:active:{user_id}"


def recent(user_id: str) -> str:
    """Sorted set: a user's tasks that have ended, by their end (ms)."""
    return f"celeriac:recent:{user_id}"


def code(digest: str) -> str:
    """String: the task types and schedules of a version of the code (see `code.py`)."""
    return f"celeriac:code:{digest}"


def nudge(worker_id: str) -> str:
    """List: a message that only wakes a worker from its wait for tasks, so that it serves a new group at once."""
    return f"celeriac:nudge:{worker_id}"


def api_keys() -> str:
    """Hash: the API keys, by id. Transitions do not touch it."""
    return "celeriac:api-keys"


def remote(group: str) -> str:
    """Sorted set: the ids of remote tasks that wait in the group, the next one first."""
    return f"celeriac:remote:{group}"


def remote_parked(group: str) -> str:
    """Sorted set: the ids of remote tasks that a rule holds back, as in `remote`."""
    return f"celeriac:remote-parked:{group}"


def permits(rule: str) -> str:
    """Sorted set: the running tasks of a rule, as bucket and id (see `lua/shared/limits.lua` for this and the next)."""
    return f"celeriac:permits:{rule}"


def parked(rule: str) -> str:
    """Sorted set: the tasks that a rule holds back; of no rule (""): those of closed keys."""
    return f"celeriac:parked:{rule}"


def out(rule: str) -> str:
    """Sorted set: the waiting tasks of a rule whose messages are under way."""
    return f"celeriac:out:{rule}"


def queued(rule: str) -> str:
    """Sorted set: the PENDING and RETRYING tasks of a rule, as bucket and id."""
    return f"celeriac:queued:{rule}"


def arrivals(rule: str) -> str:
    """Sorted set: the PENDING tasks of an ordered rule, in the order in which they came."""
    return f"celeriac:arrivals:{rule}"


def holders(rule: str) -> str:
    """Sorted set: the task of each bucket of an ordered rule that has started and not ended."""
    return f"celeriac:holders:{rule}"


def turns(rule: str) -> str:
    """Hash: whose turn a rule served last, by bucket, lane and level of the tasks that it holds back."""
    return f"celeriac:turns:{rule}"


def rates(rule: str) -> str:
    """Sorted set: the buckets of a rule with a rate, by the time from which the next start is counted (ms)."""
    return f"celeriac:rates:{rule}"


def remote_wake(group: str) -> str:
    """Channel: a remote task waits in the group."""
    return f"celeriac:remote-wake:{group}"


def gateways(group: str) -> str:
    """Sorted set: the processes to which remote workers of the group are connected, by the end of validity."""
    return f"celeriac:gateways:{group}"


def granted(gateway: str) -> str:
    """String: the number of a process's last claim for remote workers."""
    return f"celeriac:granted:{gateway}"


def open_conditions(task_id: str) -> str:
    """Hash: what a WAITING task waits for (tasks, signals, times); `lua/shared/suspension.lua` describes it."""
    return f"celeriac:open:{task_id}"


def dependants(task_id: str) -> str:
    """Sorted set: the tasks that wait for the end of this one, in the order of their submission."""
    return f"celeriac:dependants:{task_id}"


def workflow(workflow_id: str) -> str:
    """Hash: the record of a workflow (see `lua/shared/workflows.lua`)."""
    return f"celeriac:workflow:{workflow_id}"


def workflow_nodes(workflow_id: str) -> str:
    """Hash: the nodes of a workflow, by name (JSON)."""
    return f"celeriac:workflow-nodes:{workflow_id}"


def workflow_states(workflow_id: str) -> str:
    """Hash: how each node of a workflow is, by name."""
    return f"celeriac:workflow-states:{workflow_id}"


def workflow_groups(workflow_id: str) -> str:
    """Sorted set: the nodes of a workflow that belong to one of Celery's groups."""
    return f"celeriac:workflow-groups:{workflow_id}"


def workflow_events(workflow_id: str) -> str:
    """Stream: what happened to the nodes of a workflow."""
    return f"celeriac:workflow-events:{workflow_id}"


def live_workflow(workflow_id: str) -> str:
    """Channel: an event was added to a workflow's stream."""
    return f"celeriac:live-workflow:{workflow_id}"


def workflow_plan(workflow_id: str) -> str:
    """List: the submissions of an accepted workflow that are still to be stored."""
    return f"celeriac:workflow-plan:{workflow_id}"


def workflow_orders(workflow_id: str) -> str:
    """List: the tasks of a workflow that are still to be cancelled or to be run again."""
    return f"celeriac:workflow-orders:{workflow_id}"


def waits_of(user_id: str) -> str:
    """Sorted set: the signals that a user may send to waiting tasks, as in `WAITS`."""
    return f"celeriac:waits:{user_id}"


def steps(task_id: str) -> str:
    """Hash: what the task's handler has done (`lua/shared/suspension.lua`). It lives as long as the record."""
    return f"celeriac:steps:{task_id}"


def signals(task_id: str) -> str:
    """Hash: the signals that the task has received, by name. It lives as long as the record."""
    return f"celeriac:signals:{task_id}"


def once(name: str) -> str:
    """Hash: the task that holds a key of `once` (see `lua/shared/once.lua` for this and the next)."""
    return f"celeriac:once:{name}"


def debounce(name: str) -> str:
    """Hash: the task that further calls with a key of `debounce` move."""
    return f"celeriac:debounce:{name}"


def answered(task_id: str) -> str:
    """String: what a submission was answered that made no task, for the same call when it comes again."""
    return f"celeriac:answered:{task_id}"


def replies(process: str) -> str:
    """Channel: the ends and partial results of the tasks that the process waits for."""
    return f"celeriac:replies:{process}"


def confirmed() -> str:
    """Channel: nothing that anybody reads (see `server/durability.py`)."""
    return "celeriac:confirmed"


def link_secret() -> str:
    """String: the secret that signs signal links (see `link_secret.py`). Transitions do not touch it."""
    return "celeriac:link-secret"


def audit() -> str:
    """Stream: the audit. Transitions do not touch it."""
    return "celeriac:audit"


def idempotency(scope: str, key: str) -> str:
    """String: the id of the task that the user submitted with this idempotency key."""
    # With the length, two users whose names contain colons cannot produce the same key.
    return f"celeriac:idempotency:{len(scope)}:{scope}:{key}"


def reserved(group: str) -> bool:
    """Return whether the list of a group with this name would collide with keys of Celeriac or kombu."""
    # The key of a group's Celery list is the name itself.
    return group.startswith(_RESERVED)


def record_of_nobody(task_id: str) -> bool:
    """Return whether a record with this id cannot exist because its key is used for something else."""
    return task(task_id) == EXTERNAL
