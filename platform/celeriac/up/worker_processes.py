"""`celeriac worker --processes N` and `--reload`: worker processes that one command starts, watches and ends.

Each is a worker of its own, with a node name, a concurrency and a connection to the store of its own. One that dies is
started again, after a pause that grows; another worker goes on with its tasks when their leases have run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from celeriac.errors import CeleriacError, SettingsError
from celeriac.logs import writes_json
from celeriac.reload.file_watch import shown_files
from celeriac.reload.project_code import ProjectCode
from celeriac.settings import Settings
from celeriac.standard_streams import COLOURS_MARK
from celeriac.up.child_output import Screen
from celeriac.up.parent_tie import WORKER_MARK, tie_by_kernel
from celeriac.up.supervisor import ChildSpec, Supervisor

log = logging.getLogger(__name__)

_WORKER: Final = "worker"
#: How much longer than its tasks a worker may take to end (seconds).
_SLACK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """A command line of `celeriac worker`.

    `arguments` are its own, without `processes` and `reload`; `reread` reads the settings again.
    """

    arguments: Sequence[str]
    processes: int
    reload: bool
    config: Path | None
    reread: Callable[[], Settings]


def process_count(text: str) -> int:
    """Return how many processes `--processes` asks for; raises `SettingsError`."""
    if text == "auto":
        return _cores()
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise SettingsError(f"--processes {text}: give a number from 1 to 1024, or auto (one for each core)")
    return int(text)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerProcesses:
    """Keeps the workers of one command running."""

    def __init__(self, command: WorkerCommand, settings: Settings) -> None:
        argv = (sys.executable, "-m", "celeriac", *command.arguments)
        configuration = str((command.config or Path("celeriac.yaml")).absolute())
        self._settings = settings
        self._command = command
        self._screen = Screen(sys.stderr, as_json=writes_json(settings.log_format)) if command.processes > 1 else None
        self._code = ProjectCode(
            argv, environ=os.environ, configuration=[configuration], tie=tie_by_kernel(signal.SIGKILL)
        )
        self._specs = [self._spec(argv, number) for number in range(1, command.processes + 1)]
        self._supervisor = Supervisor(
            on_line=self._say,
            on_pids=lambda pids: None,
            on_imported=lambda file, began: self._code.add([file], began),
        )
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def _spec(self, argv: tuple[str, ...], number: int) -> ChildSpec:
        if self._screen is None:
            return ChildSpec(_WORKER, argv, os.environ, reports_imports=self._command.reload, inherits_output=True)
        environ = {
            **os.environ,
            WORKER_MARK: f"{os.getpid()}-{number}",
            # They write to a pipe, for which `auto` would choose JSON.
            "CELERIAC_LOG_FORMAT": "json" if self._screen.as_json else "console",
            COLOURS_MARK: "1" if self._screen.colours else "",
            "PYTHONUNBUFFERED": "1",
        }
        # If this process dies, they end as they would for a signal, and their tasks have their grace.
        return ChildSpec(
            f"{_WORKER}-{number}",
            argv,
            environ,
            reports_imports=self._command.reload,
            orphan_signal=signal.SIGTERM,
        )

    def _say(self, role: str, line: str) -> None:
        if self._screen is None or role == "up":
            log.warning("%s", line)
        else:
            self._screen.line(role, line)

    async def run(self) -> int:
        """Run until a signal asks to stop, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        await self._supervisor.start()
        working = asyncio.create_task(self._work(), name="work")
        stopping = asyncio.create_task(self._signals.get(), name="signals")
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.wait([working, stopping])
            await self._stop()
            if self._screen is not None:
                self._screen.close()
        return 0

    async def _work(self) -> None:
        await self._await_sound_code()
        for spec in self._specs:
            self._supervisor.run(spec)
        hung_up = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
        while True:
            why = await self._next_reason(hung_up)
            if why is not None:
                log.info("%s: starting the worker anew", why)
                grace_s, timeout_s = self._settings.up.reload_grace, self._settings.up.stop_timeout
                if hung_up.is_set():
                    hung_up.clear()
                    grace_s = self._settings.worker.shutdown_grace
                    timeout_s = grace_s + _SLACK_S
                await self._supervisor.restart(
                    [spec.name for spec in self._specs], grace_s=grace_s, timeout_s=timeout_s
                )

    async def _await_sound_code(self) -> None:
        """Wait until the project can be imported; without `reload`, raise `SettingsError` if it cannot."""
        said: str | None = None
        while (problem := await self._code.check()) is not None:
            if not self._command.reload:
                raise SettingsError(problem)
            if problem != said:
                said = problem
                log.error("%s: waiting for a change", problem)
            await self._code.next_change()

    async def _next_reason(self, hung_up: asyncio.Event) -> str | None:
        """Wait for a reason to start the workers anew, and return it in words; None if there is none after all."""
        waiting = [asyncio.create_task(hung_up.wait())]
        changing = asyncio.create_task(self._code.next_change()) if self._command.reload else None
        tasks = [*waiting, *([] if changing is None else [changing])]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if changing is None or not changing.done() or changing.cancelled():
            return "the signal SIGHUP came"
        changed = changing.result()
        if not await self._may_start(changed):
            return None
        return f"{shown_files(changed) if changed else 'the code'} changed"

    async def _may_start(self, changed: set[str]) -> bool:
        """Return whether the workers can be started with what the files say now; if not, say why."""
        if changed & self._code.configuration:
            try:
                self._settings = self._command.reread()
            except CeleriacError as exc:
                log.error("%s: the previous configuration stays in use", exc)
                return False
        before = self._code.problem
        problem = await self._code.check()
        if problem is not None and problem != before:
            log.error("%s: the previous code stays in use until the next change", problem)
        return problem is None

    async def _stop(self) -> None:
        """End the workers as a signal to themselves would: a second one shortens their grace."""
        hurrying = asyncio.create_task(self._hurry(), name="hurry")
        grace_s = self._settings.worker.shutdown_grace + _SLACK_S
        await self._supervisor.stop(timeout_s=grace_s)
        hurrying.cancel()

    async def _hurry(self) -> None:
        while True:
            number = await self._signals.get()
            for pid in self._supervisor.pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
