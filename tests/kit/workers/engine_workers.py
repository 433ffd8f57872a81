"""Real worker processes for the tests of the engine, and what is asked of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from celeriac.model import Status, Submission, Task
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.command_line import REPOSITORY
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import PATIENCE_S, eventually

TYPES = "tests.kit.workers.engine_types"


class WorkerProcess:
    """A worker: `celeriac worker`, or another command line of the same kind."""

    def __init__(
        self, folder: Path, command: list[str], environment: Mapping[str, str], *, cwd: Path = REPOSITORY
    ) -> None:
        self.log = folder / f"worker-{uuid.uuid4().hex[:6]}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the worker process alone."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9` the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def alive(self) -> bool:
        """Whether it runs (a stopped one does)."""
        return self.process.poll() is None

    async def gone(self, within_s: float) -> int:
        """Return its exit code; fail if it does not end in time."""
        await eventually(
            lambda: not self.alive, because=f"the worker ends; it said:\n{self.said()}", timeout_s=within_s
        )
        return int(self.process.returncode)

    def said(self) -> str:
        """Return its output so far."""
        return self.log.read_text(errors="replace")


class Workers:
    """Starts workers on one store; ends them all."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.all: list[WorkerProcess] = []

    def environment(self, **settings: Any) -> dict[str, str]:
        """Return the environment of a worker: settings by name, levels separated by two underscores.

        A lease survives a machine that stalls for five seconds. It is short enough to wait for its end.
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CELERIAC_")}
        chosen = {"lease": 8, "hint_grace": 1, "imports": [TYPES], "worker__shutdown_grace": 3, **settings}
        named = {f"CELERIAC_{name.upper()}": orjson.dumps(value).decode() for name, value in chosen.items()}
        return {**clean, "REDIS_URL": self.redis_url, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY), **named}

    async def start(self, store: TaskStore, *arguments: str, **settings: Any) -> WorkerProcess:
        """Start `celeriac worker` and wait until it is there."""
        return await self.start_command(store, [sys.executable, "-m", "celeriac", "worker", *arguments], **settings)

    async def start_command(
        self, store: TaskStore, command: list[str], environment: Mapping[str, str] | None = None, **settings: Any
    ) -> WorkerProcess:
        """Start another command that becomes a worker, and wait until it is there."""
        worker = WorkerProcess(self.folder, command, environment or self.environment(**settings))
        self.all.append(worker)

        async def present() -> bool:
            assert worker.alive, f"the worker ended at once; it said:\n{worker.said()}"
            return any(found.pid == worker.process.pid and found.groups for found in await store.workers())

        await eventually(present, because=f"the worker announces itself; it said:\n{worker.said()}")
        return worker

    def kill_all(self) -> None:
        """End all that is left."""
        for worker in self.all:
            worker.kill()


@contextlib.asynccontextmanager
async def workers_on(folder: Path, redis_url: str) -> AsyncIterator[Workers]:
    """Give a starter of workers; all are gone afterwards."""
    workers = Workers(folder, redis_url)
    try:
        yield workers
    finally:
        workers.kill_all()


@contextlib.asynccontextmanager
async def workers_on_a_server(folder: Path) -> AsyncIterator[tuple[Workers, TaskStore]]:
    """Give a starter of workers on a server of their own, and its store; all are gone afterwards."""
    server = ValkeyServer(folder / "valkey")
    server.start()
    try:
        async with TaskStore(server.url(), Settings().store) as store, workers_on(folder, server.url()) as workers:
            yield workers, store
    finally:
        server.kill()


async def submit(store: TaskStore, task_type: str, payload: Mapping[str, Any] | None = None, **more: Any) -> str:
    """Submit a task and return its id."""
    more.setdefault("task_id", str(uuid.uuid4()))
    more.setdefault("max_retries", 2)
    submission = Submission(type=task_type, payload=orjson.dumps(payload or {}).decode(), **more)
    return (await store.submit(submission)).task_id


async def ended(store: TaskStore, task_id: str, *, timeout_s: float = PATIENCE_S) -> Task:
    """Return the task once it has a final status."""

    async def final() -> Task | None:
        task = await store.get(task_id)
        return task if task.status.final else None

    found: Task = await eventually(final, because=f"task {task_id} ends", timeout_s=timeout_s)
    return found


async def runs(store: TaskStore, task_id: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the handler of the task has begun (it notes so)."""
    await eventually(lambda: ran(store, task_id), because=f"the handler of {task_id} begins", timeout_s=timeout_s)


async def ran(store: TaskStore, task_id: str) -> list[str]:
    """Return what the handler noted, over all attempts."""
    notes: list[str] = await store.redis.lrange(f"ran:{task_id}", 0, -1)
    return notes


async def has_record(store: TaskStore, task_id: str) -> bool:
    """Return whether the task has a record."""
    return bool(await store.redis.exists(f"task:{task_id}"))


async def statuses(store: TaskStore, task_id: str) -> list[str]:
    """Return the statuses that the task went through."""
    return [event.fields["status"] for event in await store.events(task_id, count=100_000) if event.kind == "status"]


def check_one_end(history: list[str]) -> None:
    """Check that a task has ended exactly once."""
    assert sum(Status(status).final for status in history) == 1, history
    assert Status(history[-1]).final, history
