"""Translates remote workers and tasks into Celery's terms: hostnames, event fields, answers to `inspect`.

The event fields follow docs.celeryq.dev, "Event Reference"; the answers follow `celery/worker/control.py`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import celeriac
from celeriac.model import Status, WorkerInfo
from celeriac.store.watching.remote_watch import RemoteStatusChange, RemoteTaskPreview

#: Seconds between two heartbeats of a worker; monitors show it as offline after twice that time.
HEARTBEAT_S: Final = 10.0

_SOFTWARE: Final = {"sw_ident": "celeriac", "sw_ver": celeriac.__version__, "sw_sys": platform.system()}


@dataclass(frozen=True, slots=True)
class CeleryEvent:
    """An event as `celeryev` carries it; `timestamp` is in seconds, and None means now."""

    type: str
    hostname: str
    timestamp: float | None
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run of a task on a remote worker, as the monitors know it."""

    task_id: str
    worker_id: str
    group: str
    attempt: int
    began_ms: int
    payload: str


def hostname(worker_id: str) -> str:
    """Return the hostname that Celery's monitors show for a worker."""
    return f"remote@{worker_id}"


def task_name(group: str) -> str:
    """Return the task name that monitors show for tasks of a group; they search, count and chart by it."""
    return f"remote.{group}"


def heartbeat(worker: WorkerInfo, kind: str, *, active: int, processed: int) -> CeleryEvent:
    """Return an event of the given kind: `worker-online`, `worker-heartbeat` or `worker-offline`."""
    load = {"active": active, "processed": processed, "loadavg": [0.0, 0.0, 0.0]}
    return CeleryEvent(kind, hostname(worker.worker_id), None, {"freq": HEARTBEAT_S, **load, **_SOFTWARE})


def began(run: RemoteRun) -> list[CeleryEvent]:
    """Return the events that say that a worker received a task and started it."""
    at, host = run.began_ms / 1000, hostname(run.worker_id)
    received = {
        "uuid": run.task_id,
        "name": task_name(run.group),
        "args": "()",
        "kwargs": run.payload,
        "retries": max(run.attempt - 1, 0),
        "eta": None,
        "expires": None,
        "root_id": run.task_id,
        "parent_id": None,
    }
    return [
        CeleryEvent("task-received", host, at, received),
        CeleryEvent("task-started", host, at, {"uuid": run.task_id}),
    ]


def ended(run: RemoteRun, change: RemoteStatusChange, result: str) -> CeleryEvent:
    """Return the event that says how a run ended."""
    host, at = hostname(run.worker_id), change.at_ms / 1000
    said = f"{change.code}: {change.message}" if change.code else change.message
    failure = {"uuid": run.task_id, "exception": said, "traceback": said}
    match change.status:
        case Status.COMPLETED:
            runtime = max(change.at_ms - run.began_ms, 0) / 1000
            return CeleryEvent("task-succeeded", host, at, {"uuid": run.task_id, "result": result, "runtime": runtime})
        case Status.FAILED:
            return CeleryEvent("task-failed", host, at, failure)
        case Status.CANCELLED:
            revoked = {"uuid": run.task_id, "terminated": True, "signum": None, "expired": False}
            return CeleryEvent("task-revoked", host, at, revoked)
        case _:
            return CeleryEvent("task-retried", host, at, failure)


def run_of(preview: RemoteTaskPreview, began_ms: int) -> RemoteRun:
    """Return the run of a record whose status is PROCESSING."""
    return RemoteRun(preview.task_id, preview.owner, preview.group, preview.attempt, began_ms, preview.payload)


def answer(method: str, worker: WorkerInfo, runs: Iterable[RemoteRun], *, processed: int, broker: str) -> Any:
    """Return a worker's answer to a command of `celery inspect`; raises `KeyError` for an unknown command."""
    host = hostname(worker.worker_id)
    match method:
        case "ping":
            return {"ok": "pong"}
        case "active":
            return [_active(run, host) for run in runs]
        case "reserved" | "scheduled" | "revoked":
            return []
        case "registered":
            return [task_name(group) for group in worker.groups]
        case "active_queues":
            return [_queue(group) for group in worker.groups]
        case "conf":
            return {"models": list(worker.models), "group": ",".join(worker.groups), "address": worker.address}
        case "stats":
            return {
                "broker": {"hostname": broker, "transport": "websocket"},
                "clock": "0",
                "pid": 0,
                "prefetch_count": worker.concurrency,
                "uptime": max(round((worker.seen_at - worker.started_at).total_seconds()), 0),
                "pool": {"implementation": "celeriac remote worker", "max-concurrency": worker.concurrency},
                "total": {task_name(group): processed for group in worker.groups},
                "rusage": {},
            }
    raise KeyError(method)


def _active(run: RemoteRun, host: str) -> dict[str, Any]:
    return {
        "id": run.task_id,
        "name": task_name(run.group),
        "args": [],
        "kwargs": run.payload,
        "type": task_name(run.group),
        "hostname": host,
        "time_start": run.began_ms / 1000,
        "acknowledged": True,
        "delivery_info": {"exchange": "", "routing_key": run.group, "priority": 0, "redelivered": False},
        "worker_pid": None,
    }


def _queue(group: str) -> dict[str, Any]:
    exchange = {"name": "", "type": "direct", "durable": True, "auto_delete": False, "delivery_mode": 2}
    return {
        "name": group,
        "exchange": exchange,
        "routing_key": group,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": False,
        "alias": None,
        "bindings": [],
        "binding_arguments": None,
        "consumer_arguments": None,
        "queue_arguments": None,
        "expires": None,
        "message_ttl": None,
        "max_length": None,
        "max_length_bytes": None,
        "max_priority": None,
    }
