"""Kills, stalls and cuts, drawn from a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable

import psycopg
import redis.asyncio as redis
from redis.exceptions import RedisError

from tests.kit.soak.ledger import Ledger
from tests.kit.soak.processes import Role
from tests.kit.soak.servers import SoakPlatform

#: A process that got SIGTERM must have ended by then (seconds): its grace, with room for a busy machine.
_TERM_S = 40.0
#: The weights of kinds of victims.
_VICTIMS = {"worker": 4, "api": 3, "beat": 3, "remote": 2, "executor": 1, "producer": 1, "store": 2, "database": 1}
#: How often everything is killed at once, by chance.
_ALL_AT_ONCE = 0.015


class Havoc:
    """Does one thing after another to the platform until it is stopped."""

    def __init__(self, platform: SoakPlatform, ledger: Ledger, chance: random.Random, *, every_s: float) -> None:
        self._platform = platform
        self._ledger = ledger
        self._chance = chance
        self._every_s = every_s
        self._running: set[asyncio.Task[None]] = set()
        #: Processes that are only stalled and cut off, not ended, so that one sees whether they grow.
        self.sheltered: Callable[[Role], bool] = lambda role: False

    async def run(self) -> None:
        """Act until cancelled; then let everything go on."""
        try:
            while True:
                await asyncio.sleep(self._chance.expovariate(1 / self._every_s))
                if len(self._running) < 3:
                    self._running.add(asyncio.create_task(self._act()))
                self._running -= {task for task in self._running if task.done()}
        finally:
            if self._running:
                await asyncio.wait(self._running, timeout=60)
            for role in self._platform.processes.roles.values():
                role.signal(signal.SIGCONT)
                role.stalled = False

    async def _act(self) -> None:
        try:
            await self._one()
        except Exception as exc:
            self._ledger.fault("the havoc itself failed", repr(exc))

    async def _one(self) -> None:
        chance = self._chance
        if chance.random() < 0.2:
            await chance.choice([self._cut_store, self._cut_store, self._cut_database])()
            return
        if chance.random() < _ALL_AT_ONCE and not any(map(self.sheltered, self._platform.processes.roles.values())):
            self._note("kill", "everything", "everything")
            for role in self._platform.processes.roles.values():
                if role.process is not None and not role.stalled:
                    role.ended_by = "kill"
                    role.process.kill()
            return
        kinds = [kind for kind in _VICTIMS if self._platform.processes.of_kind(kind)]
        kind = chance.choices(kinds, [_VICTIMS[kind] for kind in kinds])[0]
        role = chance.choice(self._platform.processes.of_kind(kind))
        how = chance.choices(["kill", "term", "stall"], [4, 2, 3])[0]
        if how != "stall" and self.sheltered(role):
            how = "stall"
        if role.stalled or role.pid is None:
            return
        self._note(how, role.kind, role.name)
        if how == "stall":
            await self._stall(role, chance.uniform(1, 40) if chance.random() < 0.4 else chance.uniform(1, 8))
        else:
            await self._end(role, how)

    def _note(self, how: str, kind: str, name: str) -> None:
        self._ledger.actions[f"{how} {kind}"] += 1
        print(f"{time.strftime('%H:%M:%S')} {how} {name}", flush=True)

    async def _end(self, role: Role, how: str) -> None:
        clock = asyncio.get_running_loop().time
        role.ended_by = how
        role.down_until = clock() + self._chance.choice([0, 0.5, 2, 5])
        process = role.process
        assert process is not None
        if how == "kill":
            process.kill()
            return
        began = clock()
        process.send_signal(signal.SIGINT if role.kind == "database" else signal.SIGTERM)
        # The store may be stalled or away at the same time; the process must end nevertheless.
        while process.poll() is None and clock() - began < _TERM_S:
            await asyncio.sleep(0.1)
        if process.poll() is None:
            self._ledger.fault("did not end on SIGTERM", f"{role.name} (pid {process.pid}) in {_TERM_S:g} s")
            process.kill()

    async def _stall(self, role: Role, seconds: float) -> None:
        pid = role.pid
        role.stalled = True
        role.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            if role.pid == pid:
                role.signal(signal.SIGCONT)
            role.stalled = False

    async def _cut_store(self) -> None:
        """Cut some of the connections to the store, or all."""
        self._note("cut", "store connections", "connections to the store")
        try:
            async with redis.Redis.from_url(
                self._platform.store_url, socket_timeout=3, decode_responses=True
            ) as client:
                if self._chance.random() < 0.3:
                    for kind in ("normal", "pubsub"):
                        await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                    return
                for one in await client.client_list():
                    if self._chance.random() < 0.4:
                        await client.execute_command("CLIENT", "KILL", "ID", one["id"])
        except (RedisError, OSError):
            pass  # it is away itself

    async def _cut_database(self) -> None:
        """Cut all connections to the database, if it is a server."""
        if self._platform.database_url.startswith("sqlite"):
            return
        self._note("cut", "database connections", "connections to the database")

        def cut() -> None:
            with psycopg.connect(self._platform.database_url, connect_timeout=3, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        with contextlib.suppress(psycopg.Error):  # it is away itself
            await asyncio.to_thread(cut)
