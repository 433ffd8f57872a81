"""Sentinels choose another primary, and every process goes on by itself: API, workers, beat, streams, callers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml

from celeriac.access.principal import Scope
from celeriac.database.migrating import migrate
from celeriac.errors import StoreUnavailableError
from celeriac.model import Claim, Progress, Status, Submission
from celeriac.settings import Settings
from celeriac.settings.store_address import read_store_address
from celeriac.store.server.facts import read_replication
from celeriac.store.server.sentinel_facts import ask_sentinels
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from tests.kit.api.http_serving import SentEvent, claim, read_events
from tests.kit.api.notification_client import Listener, listening, token
from tests.kit.chaos.api_process import ApiProcess
from tests.kit.command_line import REPOSITORY
from tests.kit.sentinels import Brand, Sentinels, Server, server_binary
from tests.kit.servers import free_port
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, workers_on

pytestmark = pytest.mark.timeout(400)

PASSWORD: Final = "sto:re/pass@1"
SENTINEL_PASSWORD: Final = "open@sesame"
USER: Final = 7
#: How each fault of a server ends.
ENDS: Final = {"kill": "start", "freeze": "thaw", "stall": "open", "drop": "open"}
#: Where a caller says that it waits, and then what it got.
CALL: Final = (
    "from tests.kit.workers.adopted_project import add\n"
    "call = add.delay(1, 2, pause_s=8)\n"
    "print('waits for', call.id, flush=True)\n"
    "print('got', call.get(timeout=120), flush=True)\n"
)


class Platform:
    """What runs on the store, each in a process of its own."""

    def __init__(self, folder: Path, rig: Sentinels, store: TaskStore, workers: Workers) -> None:
        self.folder = folder
        self.rig = rig
        self.store = store
        self._workers = workers
        database = f"sqlite:///{folder / 'history.db'}"
        migrate(database)
        self.environment = {
            **workers.environment(lease=120, imports=[]),
            "CELERIAC_DATA_DIR": str(folder), "DATABASE_URL": database, "CELERIAC_SSE_KEEPALIVE": "1",
        }  # fmt: skip
        self.api = ApiProcess(folder, rig.url(), **{k: v for k, v in self.environment.items() if "CELERIAC" in k})
        self.processes: list[WorkerProcess] = []

    async def start(self) -> None:
        """Start an API, a worker of ours, one of an adopted project, and a beat."""
        celery = [sys.executable, "-m", "celery", "-A", "tests.kit.workers.adopted_project", "worker", "-c", "2"]
        self.processes = [
            await self._workers.start_command(
                self.store, [sys.executable, "-m", "celeriac", "worker"], environment=self.environment
            ),
            await self._workers.start_command(self.store, celery, environment=self.adopted),
            self.run("-m", "celeriac", "beat"),
        ]
        await self.api.start()

    @property
    def adopted(self) -> dict[str, str]:
        """The environment of a Celery project whose broker is named by its Sentinels."""
        return {**self.environment, "SHOP_BROKER": self.rig.url(), "ADOPTED": "1", "SHOP_QUEUE": "shop"}

    def run(self, *arguments: str) -> WorkerProcess:
        """Start a Python process of the project."""
        process = WorkerProcess(self.folder, [sys.executable, *arguments], self.adopted)
        self._workers.all.append(process)
        return process

    def said(self) -> str:
        """What all processes have printed."""
        return "\n".join([self.api.said(), *(process.said() for process in self._workers.all)])


@asynccontextmanager
async def platform(folder: Path, rig: Sentinels) -> AsyncIterator[Platform]:
    async with (
        TaskStore(rig.url(), Settings(lease=120).store, patience_s=60) as store,
        workers_on(folder, rig.url()) as workers,
    ):
        one = Platform(folder, rig, store, workers)
        try:
            await one.start()
            yield one
        finally:
            one.api.kill()


async def followed(rig: Sentinels) -> Server:
    """Wait until every replica has all that the primary has now; return the primary."""
    primary = rig.primary()
    offset = primary.info()["master_repl_offset"]
    for replica in rig.replicas():
        await eventually(
            lambda replica=replica: replica.info()["slave_repl_offset"] >= offset, because="the replicas follow"
        )
    return primary


async def report(store: TaskStore, mine: Claim, number: int) -> None:
    """Report progress; the message is the number."""
    await store.progress(mine, number, Progress(float(number), "stage", str(number), number))


@pytest.mark.parametrize(
    ("brand", "tls", "faults"),
    [("valkey", False, ("kill", "freeze", "stall", "drop")), ("redis", True, ("kill", "freeze", "stall"))],
    ids=["valkey", "redis with TLS"],
)
async def test_every_process_outlives_the_primary(
    tmp_path: Path, brand: Brand, tls: bool, faults: tuple[str, ...]
) -> None:
    settings = Settings(data_dir=tmp_path)
    with Sentinels(
        tmp_path / "store", brand=brand, tls=tls, password=PASSWORD, sentinel_password=SENTINEL_PASSWORD
    ) as rig:
        async with platform(tmp_path, rig) as running:
            store = running.store
            ticket = token(settings, USER, Scope.SUBMIT, Scope.READ)
            await store.submit(Submission(task_id="watched", type="watched", group="mine", user_id=str(USER)))
            mine = await claim(store, "watched")
            async with (
                httpx.AsyncClient(base_url=running.api.url, timeout=60) as http,
                listening(running.api.url, USER, f"?token={ticket}") as listener,
            ):
                received: list[SentEvent] = []
                watching = asyncio.create_task(_watch(http, received))
                for number, fault in enumerate(faults, 1):
                    await _one_fault(running, http, listener, mine, received, number, fault)
                await store.complete(mine, "null")
                await listener.until("watched", "completed")
                await asyncio.wait_for(watching, 60)
                assert received[-1].name == "done"
                assert not any("recovered" in event.data for event in received), "nothing was lost"

            async def recorded() -> bool:
                lag = await EventFeed(store, consumer="").lag()
                return lag.recording and lag.entries == 0

            await eventually(recorded, because=f"the beat records on; it said:\n{running.processes[2].said()}")
            said = running.said()
            for secret in (PASSWORD, "sto%3Are", SENTINEL_PASSWORD, "open%40sesame"):
                assert secret not in said
            assert "Traceback" not in running.api.said()


async def _watch(http: httpx.AsyncClient, received: list[SentEvent]) -> None:
    async with http.stream("GET", "/api/v1/tasks/watched/progress/stream", timeout=None) as response:
        async for event in read_events(response):
            received.append(event)


async def _one_fault(
    running: Platform,
    http: httpx.AsyncClient,
    listener: Listener,
    mine: Claim,
    received: list[SentEvent],
    number: int,
    fault: str,
) -> None:
    rig, store = running.rig, running.store
    await report(store, mine, 2 * number)
    caller = running.run("-c", CALL)
    await eventually(lambda: "waits for" in caller.said(), because=f"a caller waits: {caller.said()}")
    old = await followed(rig)
    getattr(old, fault)()
    await asyncio.to_thread(rig.wait_for_switch, old)

    async def accepted() -> str | None:
        answer = await http.post("/api/v1/tasks", json={"type": "celeriac.demo", "payload": {"seconds": 0.01}})
        assert answer.status_code in (202, 503), answer.text
        return str(answer.json()["task_id"]) if answer.status_code == 202 else None

    task_id = await eventually(accepted, because=f"{fault}: a submission is accepted")
    assert (await ended(store, task_id)).status is Status.COMPLETED, fault
    await report(store, mine, 2 * number + 1)
    await eventually(
        lambda: any(event.data.get("message") == str(2 * number + 1) for event in received),
        because=f"{fault}: an event stream goes on; it has {received}",
    )
    await listener.until("watched", "progress", having="message")
    await eventually(lambda: "got 3" in caller.said(), because=f"{fault}: a caller gets the result: {caller.said()}")
    for process in running.processes:
        assert process.alive, (fault, process.said())
    getattr(old, ENDS[fault])()
    await asyncio.to_thread(rig.wait_until_whole)


async def test_the_example_in_deploy_survives_its_primary(tmp_path: Path) -> None:
    """The commands of deploy/sentinel/compose.yaml as plain processes, on ports of their own."""
    source = REPOSITORY / "deploy" / "sentinel"
    services = yaml.safe_load((source / "compose.yaml").read_text())["services"]
    ports = {port: str(free_port()) for port in ("26379", "26380", "26381", "6379", "6380", "6381")}
    moved = re.compile(rf"\b({'|'.join(ports)})\b")
    for name in ("server.conf", "sentinel.conf"):
        (tmp_path / name).write_text(moved.sub(lambda found: ports[found[1]], (source / name).read_text()))
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, service in services.items():
            command = service["command"].replace("/etc/celeriac", str(tmp_path))
            command = moved.sub(lambda found: ports[found[1]], command).replace(
                "valkey-server", server_binary("valkey")
            )
            (tmp_path / name).mkdir()
            with (tmp_path / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    shlex.split(command), cwd=tmp_path / name, stdout=log, stderr=log, start_new_session=True
                )
        url = f"redis+sentinel://127.0.0.1:{ports['26379']},127.0.0.1:{ports['26381']}/celeriac/0"

        async def accepted(task_id: str) -> bool:
            with contextlib.suppress(StoreUnavailableError):
                async with TaskStore(url, Settings().store, patience_s=1) as store:
                    await store.submit(Submission(task_id=task_id, type="demo"))
                    return bool(len((await read_replication(store)).lags_s) == 2 - ("server-0" not in processes))
            return False

        await eventually(lambda: accepted("before"), because=f"everything is up, see {tmp_path}")
        facts = await asyncio.to_thread(ask_sentinels, read_store_address(url))
        await eventually(lambda: _knows_both(url), because="the Sentinels know the replicas")
        assert not any(one.problem for one in facts)
        processes.pop("server-0").kill()
        await eventually(lambda: accepted("after"), because=f"a replica takes over, see {tmp_path}")
    finally:
        for process in processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _knows_both(url: str) -> bool:
    facts = await asyncio.to_thread(ask_sentinels, read_store_address(url))
    return all(sum(one.role != "primary" for one in found.named) == 4 and found.quorum[:2] == "OK" for found in facts)
