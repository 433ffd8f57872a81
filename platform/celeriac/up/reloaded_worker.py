"""`celeriac worker --reload`: a worker process that is started anew when its code or the configuration has changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from celeriac.errors import CeleriacError
from celeriac.reload.file_watch import shown_files
from celeriac.reload.project_code import ProjectCode
from celeriac.settings import Settings
from celeriac.up.parent_tie import tie_by_kernel
from celeriac.up.supervisor import ChildSpec, Supervisor

log = logging.getLogger(__name__)

_WORKER: Final = "worker"
#: How much longer than its tasks a worker may take to end (seconds).
_SLACK_S: Final = 10.0


class ReloadedWorker:
    """Keeps one worker running. `arguments` are those of `celeriac worker`; `reread` reads the settings again."""

    def __init__(
        self, arguments: Sequence[str], *, settings: Settings, config: Path | None, reread: Callable[[], Settings]
    ) -> None:
        argv = (sys.executable, "-m", "celeriac", *arguments)
        configuration = str((config or Path("celeriac.yaml")).absolute())
        self._settings = settings
        self._reread = reread
        self._code = ProjectCode(
            argv, environ=os.environ, configuration=[configuration], tie=tie_by_kernel(signal.SIGKILL)
        )
        self._spec = ChildSpec(_WORKER, argv, os.environ, reports_imports=True, inherits_output=True)
        self._supervisor = Supervisor(
            on_line=lambda role, line: log.warning("%s", line),
            on_pids=lambda pids: None,
            on_imported=lambda file, began: self._code.add([file], began),
        )
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def run(self) -> int:
        """Run until a signal asks to stop, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        await self._supervisor.start()
        working = asyncio.create_task(self._work(), name="reload")
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
        return 0

    async def _work(self) -> None:
        said: str | None = None
        while (problem := await self._code.check()) is not None:
            if problem != said:
                said = problem
                log.error("%s: waiting for a change", problem)
            await self._code.next_change()
        self._supervisor.run(self._spec)
        while True:
            changed = await self._code.next_change()
            if await self._may_start(changed):
                log.info("%s changed: starting the worker anew", shown_files(changed) if changed else "the code")
                grace_s, timeout_s = self._settings.up.reload_grace, self._settings.up.stop_timeout
                await self._supervisor.restart([_WORKER], grace_s=grace_s, timeout_s=timeout_s)

    async def _may_start(self, changed: set[str]) -> bool:
        """Return whether the worker can be started with what the files say now; if not, say why."""
        if changed & self._code.configuration:
            try:
                self._settings = self._reread()
            except CeleriacError as exc:
                log.error("%s: the previous configuration stays in use", exc)
                return False
        before = self._code.problem
        problem = await self._code.check()
        if problem is not None and problem != before:
            log.error("%s: the previous code stays in use until the next change", problem)
        return problem is None

    async def _stop(self) -> None:
        """End the worker as a signal to itself would: a second one shortens its grace."""
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
