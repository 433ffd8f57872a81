"""A whole `celeriac up` of a test's own, to be killed in part or as a whole and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from celeriac.model import Event, Task
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.command_line import REPOSITORY
from tests.kit.servers import free_port
from tests.kit.waiting import eventually


class RunningPlatform:
    """`celeriac up` on free ports and a data folder of its own; what it prints goes to `up.log` there."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self._grpc_port = free_port()
        self._log = folder / "up.log"
        self._config = folder / "celeriac.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._process: subprocess.Popen[bytes] | None = None

    # --- life

    async def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        command = [
            sys.executable,
            "-m",
            "celeriac",
            "up",
            "--config",
            str(self._config),
            "--data-dir",
            str(self.data_dir),
        ]
        command += ["--port", str(self.port), "--grpc-port", str(self._grpc_port)]
        with self._log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
        await eventually(
            lambda: b"is ready" in self._log.read_bytes()[begin:], because=f"up is ready, see {self._log}", timeout_s=60
        )

    def pids(self, *roles: str) -> list[int]:
        """Return the pids of these roles (`worker` includes `worker-2`), of all without roles."""
        found: dict[str, int] = json.loads((self.data_dir / "run.json").read_text())["pids"]
        return [pid for role, pid in found.items() if not roles or role.startswith(roles)]

    def family(self, *roles: str) -> list[psutil.Process]:
        """Return the processes of these roles and all that they started."""
        heads = [psutil.Process(pid) for pid in self.pids(*roles)]
        return [*heads, *(child for head in heads for child in head.children(recursive=True))]

    def kill(self, *roles: str) -> None:
        """Kill every process of these roles as `kill -9` does."""
        for pid in self.pids(*roles):
            os.kill(pid, signal.SIGKILL)

    async def kill_everything(self) -> None:
        """Kill `up` and all its children at once, and wait until they are gone."""
        assert self._process is not None
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for process in family:
            process.kill()
        self._process.wait()
        await eventually(lambda: not any(map(alive, family)), because="killed processes end")

    def stop(self) -> None:
        """End it as Ctrl-C does; kill it if that takes too long."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    # --- use

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client on its API."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as client:
            yield client

    @asynccontextmanager
    async def store(self) -> AsyncIterator[TaskStore]:
        """A connection to its store."""
        url = json.loads((self.data_dir / "run.json").read_text())["redis"]
        async with TaskStore(url, Settings().store, patience_s=20) as store:
            yield store


def alive(process: psutil.Process) -> bool:
    """Say whether a process still runs (a zombie does not)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def wait_until_all_ended(store: TaskStore, ids: Iterable[str], *, timeout_s: float) -> list[Task]:
    """Wait until each task has a final status; return them in the order of `ids`."""
    ids = list(ids)
    open_ids = set(ids)

    async def ended() -> bool:
        for task_id in list(open_ids):
            if (await store.get(task_id)).status.final:
                open_ids.discard(task_id)
        return not open_ids

    await eventually(ended, because=f"{len(open_ids)} tasks end", timeout_s=timeout_s, interval_s=0.1)
    return [await store.get(task_id) for task_id in ids]


async def all_events(store: TaskStore, task_id: str) -> list[Event]:
    """Return every event of a task."""
    events: list[Event] = []
    while page := await store.events(task_id, after=events[-1].id if events else "-"):
        events += page
    return events


async def final_states(store: TaskStore, task_id: str) -> list[str]:
    """Return every final status that the task's stream has."""
    finals = {"COMPLETED", "FAILED", "CANCELLED"}
    return [
        e.fields["status"]
        for e in await all_events(store, task_id)
        if e.kind == "status" and e.fields["status"] in finals
    ]
