"""`celeriac workers` and `types`: list the workers and the task types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from celeriac.cli.connection import on_store
from celeriac.cli.options import Config, DataDir, Json
from celeriac.cli.output import print_json
from celeriac.cli.tables import print_table
from celeriac.installation.discovery import joined_settings
from celeriac.model import WorkerInfo, rfc3339
from celeriac.store.task_store import TaskStore
from celeriac.tasks.record import worker_record


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (workers, types):
        app.command(rich_help_panel="Platform")(command)


def workers(as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """List the running workers: where they are, which groups they serve and how busy they are."""
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> list[WorkerInfo]:
        return await store.workers()

    found = on_store(settings, url, work)
    if as_json:
        print_json({"workers": [worker_record(worker) for worker in found]})
        return
    print_table(
        ("WORKER", "KIND", "HOST", "PID", "GROUPS", "RUNNING", "SINCE"),
        [_worker_row(worker) for worker in found],
        empty="no worker is running: start one with `celeriac worker`",
    )


def types(as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """List the task types that the workers run; with --json, also the schema of each payload."""
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> dict[str, dict[str, Any]]:
        return await store.task_types()

    found = on_store(settings, url, work)
    if as_json:
        print_json({"task_types": [_task_type(name, found[name]) for name in sorted(found)]})
        return
    print_table(
        ("TYPE", "QUEUE", "DESCRIPTION"),
        [
            (name, found[name].get("group", ""), str(found[name].get("description") or "").partition("\n")[0])
            for name in sorted(found)
        ],
        empty="no worker has announced a task type yet",
    )


def _task_type(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": about.get("description", ""),
        "queue": about.get("group", "default"),
        "max_retries": about.get("max_retries"),
        "timeout_s": about.get("timeout_s"),
        "payload_schema": about.get("schema", {}),
    }


def _worker_row(worker: WorkerInfo) -> tuple[Any, ...]:
    busy = f"{worker.running}/{worker.concurrency}"
    groups = ",".join(worker.groups)
    # A remote worker is known by its address only.
    return worker.worker_id, worker.kind, worker.host, worker.pid or "", groups, busy, rfc3339(worker.started_at)
