"""All commands of `celeriac`, in the order of `celeriac --help`, with the help that it shows of them."""

from __future__ import annotations

from typing import Final

from celeriac.cli.loading import Entry

_RUN: Final = "Run"
_TASKS: Final = "Tasks"
_PLATFORM: Final = "Platform"
_ACCESS: Final = "Access"

COMMANDS: Final = (
    Entry(
        "init",
        "init",
        _RUN,
        "Write a small project that works as it is: a task type, its configuration and its tests.",
    ),
    Entry("up", "up", _RUN, "Run everything on this machine: store, API, gRPC, worker, beat."),
    Entry("api", "processes", _RUN, "Serve HTTP and gRPC. Any number of these may run on one store."),
    Entry(
        "grpc",
        "processes",
        _RUN,
        "Serve gRPC only (the task service). The store is that of `up`, REDIS_URL, or REDIS_ADDR (localhost:6379).",
    ),
    Entry(
        "worker", "processes", _RUN, "Run tasks. Any number of these may run on one store, on any number of machines."
    ),
    Entry(
        "beat",
        "processes",
        _RUN,
        "Run schedules, due tasks, expired leases, lost messages and the recording of history. Any number may run.",
    ),
    Entry(
        "migrate",
        "processes",
        _RUN,
        "Create the tables of the history, or upgrade them to this version. `celeriac up` does so by itself.",
    ),
    Entry(
        "remote-worker",
        "remote_worker",
        _RUN,
        "Receive the tasks of a group over a WebSocket and run them with a function. Needs no store and no Celery.",
    ),
    Entry("submit", "tasks", _TASKS, "Submit a task and print its id."),
    Entry(
        "workflows",
        "workflows",
        _TASKS,
        "List the workflows: graphs of tasks that come after each other. Submit, show, follow and change them.",
    ),
    Entry("status", "tasks", _TASKS, "Show a task's record, from the history if it is no longer in the store."),
    Entry(
        "why",
        "tasks",
        _TASKS,
        "Say why a task waits: a pause, a limit, its place in the queue, no worker for it, …",
    ),
    Entry(
        "cancel",
        "tasks",
        _TASKS,
        "Cancel a task, or all that match. A waiting task is cancelled at once, a running one as soon as it can stop.",
    ),
    Entry(
        "run-now",
        "tasks",
        _TASKS,
        "Run a task now that waits for its time or for its next attempt. Limits and pauses hold as before.",
    ),
    Entry(
        "retry",
        "tasks",
        _TASKS,
        "Run a failed or cancelled task again, or all failed tasks that match, with all attempts.",
    ),
    Entry("signal", "signals", _TASKS, "Send a signal to a task that waits for it, such as an approval."),
    Entry(
        "waits",
        "signals",
        _TASKS,
        "List the signals that tasks wait for and that you may send. With --json: one object per line.",
    ),
    Entry("watch", "watch", _TASKS, "Follow a task to its end, from its first event, and print its result."),
    Entry(
        "log",
        "log",
        _TASKS,
        "Show what a task's handler wrote with `ctx.log`, and why attempts failed, with tracebacks; #2 is attempt 2.",
    ),
    Entry(
        "list",
        "history",
        _TASKS,
        "List tasks, also those that are no longer in the store. With --json: one record per line.",
    ),
    Entry("dead", "dead", _TASKS, "List the dead letters, the tasks that failed for good; show one, run them again."),
    Entry(
        "errors",
        "errors",
        _TASKS,
        "Group the tasks that failed for good by type, code and message, whatever values the message names.",
    ),
    Entry(
        "definitions",
        "definitions",
        _TASKS,
        "List the definitions: tasks that run on a schedule, or once at a given time. Make, show and change them.",
    ),
    Entry(
        "stats",
        "history",
        _TASKS,
        "Show how many tasks were submitted and ended over time, and how long they waited and ran.",
    ),
    Entry(
        "workers",
        "workers",
        _PLATFORM,
        "List the running workers: where they are, what they serve, how busy they are; drain and resume one.",
    ),
    Entry(
        "types",
        "types",
        _PLATFORM,
        "List the task types: those of the platform and those that workers run.",
    ),
    Entry(
        "groups",
        "groups",
        _PLATFORM,
        "List the worker groups, with their waiting tasks, running tasks and workers; pause and limit them.",
    ),
    Entry(
        "limits",
        "limits",
        _PLATFORM,
        "List the limits: how many tasks of a group, type, key or user may run or start. Set, show and delete them.",
    ),
    Entry(
        "doctor",
        "doctor",
        _PLATFORM,
        "Check every dependency, setting and clock, and advise what to do. Exit code 1: something does not work.",
    ),
    Entry(
        "adopt",
        "adopt",
        _PLATFORM,
        "Look at a Celery project: what runs as it is after `adopt(app)`, and what does not; or import its schedules.",
    ),
    Entry(
        "login",
        "login",
        _ACCESS,
        "Remember a server and the token for it, once the server has accepted the token.",
    ),
    Entry(
        "logout",
        "login",
        _ACCESS,
        "Forget a server and the token for it. The token stays valid until it expires or is revoked.",
    ),
    Entry(
        "profiles",
        "login",
        _ACCESS,
        "List the servers that you logged in to, without their tokens; `use` chooses the default one.",
    ),
    Entry("token", "access", _ACCESS, "Create a token and print it."),
    Entry(
        "keys",
        "access",
        _ACCESS,
        "List the API keys: credentials that are valid until they expire or are revoked. Create and revoke them.",
    ),
    Entry(
        "audit",
        "access",
        _ACCESS,
        "Show who did what, when and from where: cancellations, retries, pauses, definitions, keys.",
    ),
    Entry(
        "backup",
        "backup",
        _PLATFORM,
        "Copy the data folder of `celeriac up`, whether it runs or not: store, database, uploads and secret.",
    ),
)
