"""Processes that are started again after they end, as a supervisor of production does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass
class Role:
    """One process of the platform, under a name that stays the same over its restarts."""

    name: str
    kind: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    cwd: Path
    user: str | None = None
    #: Until when it stays down (seconds of the loop's clock).
    down_until: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    #: Since when it is stopped by SIGSTOP, None if it runs.
    stalled: bool = False
    #: How it was last ended on purpose, '' if it was not.
    ended_by: str = ""
    pids: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        """The pid of the living process."""
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    def start(self) -> None:
        """Start it; what it prints goes to a file of its name."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                cwd=self.cwd,
                env=dict(self.environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.user,
                extra_groups=[] if self.user else None,
            )
        self.starts += 1
        self.ended_by = ""
        self.pids.append(self.process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.pid is not None and self.process is not None:
            self.process.send_signal(number)


class Processes:
    """All roles; `watch` starts again what has ended."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        #: Ends that nobody asked for: (role, exit code).
        self.crashes: list[tuple[str, int]] = []
        self._watcher: asyncio.Task[None] | None = None

    def add(self, role: Role) -> Role:
        """Know a role."""
        self.roles[role.name] = role
        return role

    def of_kind(self, *kinds: str) -> list[Role]:
        """Return the roles of these kinds."""
        return [role for role in self.roles.values() if role.kind in kinds]

    def start_all(self) -> None:
        """Start what is not running, and begin to watch."""
        for role in self.roles.values():
            if role.pid is None:
                role.start()
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            for role in self.roles.values():
                if role.pid is None and role.process is not None:
                    if not role.ended_by:
                        self.crashes.append((role.name, role.process.returncode))
                        role.ended_by = "itself"
                        role.down_until = clock() + 1.0
                    if clock() >= role.down_until:
                        role.start()
            await asyncio.sleep(0.2)

    async def end(self, name: str) -> None:
        """End one role for good."""
        role = self.roles.pop(name)
        role.signal(signal.SIGTERM)
        await asyncio.to_thread(_wait_or_kill, [role])

    async def stop(self) -> None:
        """End everything: the servers last."""
        if self._watcher is not None:
            self._watcher.cancel()
        for servers in (False, True):
            some = [r for r in self.roles.values() if (r.kind in ("store", "database")) is servers]
            for role in some:
                role.signal(signal.SIGCONT)
                # PostgreSQL waits for its clients after SIGTERM; SIGINT ends it in good order at once.
                role.signal(signal.SIGINT if role.kind == "database" else signal.SIGTERM)
            await asyncio.to_thread(_wait_or_kill, some)


def _wait_or_kill(roles: Sequence[Role]) -> None:
    for role in roles:
        if role.process is None:
            continue
        try:
            role.process.wait(timeout=25)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(role.process.pid).children(recursive=True):
                    child.kill()
            role.process.kill()
            role.process.wait()


def renice(value: int) -> None:
    """Yield to other work of the machine; children inherit it."""
    os.setpriority(os.PRIO_PROCESS, 0, value)
