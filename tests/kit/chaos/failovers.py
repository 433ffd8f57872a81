"""A platform on a store that fails over: its processes, a load that writes down what was accepted, and the rounds.

A round breaks the primary in one way, waits for `+switch-master`, and has one task submitted and run; then the broken
server comes back. Meanwhile tasks are submitted through HTTP and by a blocking caller, and workers are killed.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx
import yaml

from celeriac.errors import StoreUnavailableError, TaskNotFoundError
from celeriac.model import Event, Submission
from celeriac.settings import Settings
from celeriac.store.server.channel import StoreChannel
from celeriac.store.task_store import TaskStore
from tests.kit.command_line import CELERIAC, REPOSITORY, clean_environment
from tests.kit.sentinels import Sentinels, Server
from tests.kit.servers import free_port
from tests.kit.soak.processes import Processes, Role
from tests.kit.waiting import PATIENCE_S, eventually, serves

#: How the primary is broken, and what undoes it.
FAULTS: Final = {"kill": "start", "freeze": "thaw", "stall": "open", "drop": "open"}
#: From `+switch-master` on, one task is submitted and runs to its end within this time (seconds).
BACK_WITHIN_S: Final = 15.0
_FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
#: Tasks that are looked at in one round trip.
_AT_ONCE: Final = 200
_SUBMITTERS: Final = 3


@dataclass
class Accepted:
    """What callers were told. An id is in `ids` once a caller was told that the task is accepted."""

    ids: list[str] = field(default_factory=list)
    #: By idempotency key: the ids that refusals have named.
    named: dict[str, set[str]] = field(default_factory=dict)
    #: By idempotency key: the id that was accepted.
    answered: dict[str, str] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)


class FailoverPlatform:
    """Two API processes and two workers on the rig, `durability: replicated`; a context manager of one event loop."""

    def __init__(self, folder: Path, sentinels: Sentinels, *, seed: str, pause_s: float = 0.1) -> None:
        self.folder = folder
        self.sentinels = sentinels
        self.accepted = Accepted()
        #: How long it took from each `+switch-master` to the end of a task submitted after it (seconds), by fault.
        self.back_s: list[tuple[str, float]] = []
        self._chance = random.Random(seed)
        self._pause_s = pause_s
        self._ports = [free_port(), free_port()]
        self._processes = Processes()
        self._marks = folder / "marks"
        self._load: list[asyncio.Task[None]] = []
        self._loading = True
        config = {
            "imports": ["tests.kit.chaos.chaos_types"],
            "durability": "replicated",
            "lease": 5,
            "worker": {"threads": 4},
        }
        self.settings = Settings.model_validate({**config, "imports": []})
        (folder / "celeriac.yaml").write_text(yaml.safe_dump(config))

    async def __aenter__(self) -> Self:
        environment = clean_environment(
            REDIS_URL=self.sentinels.url(),
            CELERIAC_CONFIG=str(self.folder / "celeriac.yaml"),
            CELERIAC_DATA_DIR=str(self.folder / "data"),
            CELERIAC_LOG_FORMAT="console",
            PYTHONUNBUFFERED="1",
        )
        for number, port in enumerate(self._ports, 1):
            ports = ("--port", str(port), "--grpc-port", str(free_port()))
            for kind, more in (("api", ports), ("worker", ())):
                command = (*CELERIAC, kind, *more)
                self._processes.add(Role(f"{kind}-{number}", kind, command, environment, self.folder, REPOSITORY))
        try:
            self._processes.start_all()
            self._client = httpx.AsyncClient(timeout=20)
            for port in self._ports:
                async with httpx.AsyncClient(base_url=_url(port), timeout=20) as client:
                    await eventually(lambda: serves(client, "/readyz"), because=f"the API answers, see {self.folder}")
            self._load = [asyncio.create_task(self._submit_on()) for _ in range(_SUBMITTERS)]
            self._load.append(asyncio.create_task(asyncio.to_thread(self._submit_blocking)))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loading = False
        for task in self._load:
            task.cancel()
        await asyncio.gather(*self._load, return_exceptions=True)
        await self._client.aclose()
        await self._processes.stop()

    async def round(self, fault: str) -> None:
        """Break the primary, expect that everything goes on within `BACK_WITHIN_S`, and bring the server back."""
        await asyncio.to_thread(self.sentinels.wait_until_whole)
        await eventually(self._all_work, because=f"the workers are ready, see {self.folder}")
        if self._chance.random() < 0.5:
            self._kill_a_worker()
        old: Server = await asyncio.to_thread(self.sentinels.primary)
        await asyncio.to_thread(getattr(old, fault))
        try:
            await asyncio.to_thread(self.sentinels.wait_for_switch, old)
            switched = time.monotonic()
            probe = asyncio.create_task(self._probe())
            await eventually(
                probe.done, because=f"after {fault} a task runs, see {self.folder}", timeout_s=BACK_WITHIN_S
            )
            await probe
            self.back_s.append((fault, time.monotonic() - switched))
        finally:
            await asyncio.to_thread(getattr(old, FAULTS[fault]))

    def _all_work(self) -> bool:
        """Return whether each worker has said that it is ready since its last start: one takes long to start."""
        return all(
            (self.folder / f"{role.name}.log").read_text(errors="replace").count(" ready. [celery") == role.starts
            for role in self._processes.of_kind("worker")
        )

    def _kill_a_worker(self) -> None:
        role = self._chance.choice(self._processes.of_kind("worker"))
        role.ended_by = "the test"
        role.signal(signal.SIGKILL)

    async def _probe(self) -> None:
        task_id = await self._submit()
        while True:
            with suppress(httpx.HTTPError):
                found = await self._client.get(f"{self._any()}/api/v1/tasks/{task_id}")
                if found.status_code == 200 and found.json()["status"] == "completed":
                    return
            await asyncio.sleep(0.05)

    async def _submit_on(self) -> None:
        while self._loading:
            await self._submit()
            await asyncio.sleep(self._pause_s * self._chance.uniform(0.5, 1.5))

    async def _submit(self) -> str:
        """Submit one task and repeat that with its key until it is accepted, as a client does."""
        key = secrets.token_hex(8)
        document = {
            "type": "nap", "max_retries": 1000,
            "payload": {"marks": str(self._marks), "seconds": self._chance.uniform(0, 0.3)},
        }  # fmt: skip
        while True:
            try:
                answer = await self._client.post(
                    f"{self._any()}/api/v1/tasks", json=document, headers={"Idempotency-Key": key}
                )
            except httpx.HTTPError as exc:
                self.accepted.refusals[type(exc).__name__] += 1
                continue
            if answer.status_code in (200, 202):
                task_id = str(answer.json()["task_id"])
                self.accepted.answered[key] = task_id
                self.accepted.ids.append(task_id)
                return task_id
            assert answer.status_code == 503, answer.text
            named = answer.json().get("task_id")
            self.accepted.refusals["503 with an id" if named else "503"] += 1
            if named:
                self.accepted.named.setdefault(key, set()).add(named)
            await asyncio.sleep(0.1)

    def _submit_blocking(self) -> None:
        """Submit as `.delay()` does, from a thread, with the same nonce until it is accepted."""
        channel = StoreChannel(self.sentinels.url(), self.settings.store)
        payload = f'{{"marks":"{self._marks}","seconds":0}}'
        while self._loading:
            task_id, nonce = secrets.token_hex(16), secrets.token_hex(8)
            submission = Submission(task_id=task_id, type="nap", payload=payload, max_retries=1000)
            while self._loading:
                try:
                    channel.submit(submission, nonce=nonce)
                except StoreUnavailableError as exc:
                    self.accepted.refusals[f"blocking {type(exc).__name__}"] += 1
                    continue
                self.accepted.ids.append(task_id)
                break
            time.sleep(self._pause_s)

    def _any(self) -> str:
        return _url(self._chance.choice(self._ports))

    async def settle(self) -> dict[str, Any]:
        """End the load, wait until all that was accepted has ended, and check it; returns what was counted."""
        self._loading = False
        await asyncio.gather(*self._load)
        await asyncio.to_thread(self.sentinels.wait_until_whole)
        async with TaskStore(self.sentinels.url(), self.settings.store, patience_s=PATIENCE_S) as store:
            ids = list(dict.fromkeys(self.accepted.ids))
            open_ids = list(ids)

            async def all_ended() -> bool:
                for place in range(0, len(open_ids), _AT_ONCE):
                    some = open_ids[place : place + _AT_ONCE]
                    tasks = await asyncio.gather(*map(store.get, some))  # one that is lost fails here
                    ended = {task.task_id for task in tasks if task.status.final}
                    open_ids[place : place + _AT_ONCE] = [one for one in some if one not in ended]
                return not open_ids

            await eventually(all_ended, because=f"all that was accepted ends, see {self.folder}", interval_s=0.5)
            ends: Counter[tuple[str, ...]] = Counter()
            for place in range(0, len(ids), _AT_ONCE):
                found = await asyncio.gather(*(_finals(store, one) for one in ids[place : place + _AT_ONCE]))
                ends.update(found)
            doubled = [
                one
                for key, named in self.accepted.named.items()
                for one in named - {self.accepted.answered.get(key)}
                if await _exists(store, one)
            ]
        assert not doubled, f"a key has made two tasks: {doubled}"
        assert set(ends) == {("COMPLETED",)}, f"ends of tasks: {ends}"
        return {
            "accepted": len(ids),
            "refusals": dict(self.accepted.refusals),
            "rounds": dict(Counter(fault for fault, _ in self.back_s)),
            "back_s": {
                fault: [round(min(some), 1), round(sorted(some)[len(some) // 2], 1), round(max(some), 1)]
                for fault in FAULTS
                if (some := [took for name, took in self.back_s if name == fault])
            },
        }


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def _exists(store: TaskStore, task_id: str) -> bool:
    try:
        await store.get(task_id)
    except TaskNotFoundError:
        return False
    return True


async def _finals(store: TaskStore, task_id: str) -> tuple[str, ...]:
    """Return every final status that the task's stream has."""
    events: list[Event] = []
    while page := await store.events(task_id, after=events[-1].id if events else "-"):
        events += page
    return tuple(e.fields["status"] for e in events if e.kind == "status" and e.fields["status"] in _FINAL)
