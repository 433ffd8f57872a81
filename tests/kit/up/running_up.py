"""`celeriac up` as a test runs it: a real process, its output, its children."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from tests.kit.command_line import CELERIAC, celeriac, clean_environment
from tests.kit.waiting import PATIENCE_S, eventually


class RunningUp:
    """One `celeriac up` on `data_dir`; leaving the context kills whatever of it is left.

    `before` is called in the new process, before the program.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        cwd: Path | None = None,
        command: tuple[str, ...] = CELERIAC,
        before: Callable[[], object] | None = None,
        **environ: str,
    ) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        self._ever: set[psutil.Process] = set()
        ports = [] if "--port" in arguments else ["--port", "0", "--grpc-port", "0"]
        self.process = subprocess.Popen(
            [*command, "up", *ports, "--data-dir", str(data_dir), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
            env=clean_environment(**environ),
            preexec_fn=before,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.children()
        for process in [*self._ever, psutil.Process(self.process.pid)] if self.process.poll() is None else self._ever:
            if process.is_running():
                process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def text(self) -> str:
        """Everything it said so far."""
        return "\n".join(self.lines)

    @property
    def run_json(self) -> dict[str, Any]:
        """What the run file says now."""
        content: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return content

    def pid(self, role: str) -> int:
        """Return the process id of a role, 0 while it has none."""
        return int(self.run_json["pids"].get(role, 0))

    def kill(self, role: str) -> None:
        """Kill a role as `kill -9` does."""
        pid = self.pid(role)
        # 0 would be all processes of the test's own group.
        assert pid, f"{role} has no process; up said:\n{self.text}"
        os.kill(pid, signal.SIGKILL)

    def children(self) -> list[psutil.Process]:
        """Return all its living descendants, and remember them."""
        if self.process.poll() is None:
            self._ever.update(psutil.Process(self.process.pid).children(recursive=True))
        return [process for process in self._ever if alive(process)]

    async def said(self, text: str, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it said `text`."""
        try:
            await eventually(
                lambda: text in self.text or self.process.poll() is not None,
                because=f"up says {text!r}",
                timeout_s=timeout_s,
            )
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it said:\n{self.text}") from None
        assert text in self.text, f"up ended ({self.process.returncode}) without {text!r}; it said:\n{self.text}"

    async def ready(self) -> Self:
        """Wait until it says that it is ready."""
        await self.said("is ready.")
        self.children()
        return self

    async def ended(self, *, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it ended and return its exit code."""
        await eventually(lambda: self.process.poll() is not None, because="up ends", timeout_s=timeout_s)
        self._reader.join(5)
        return self.process.returncode

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to stop as Ctrl-C does, and wait until it did."""
        self.children()
        self.process.send_signal(number)
        return await self.ended()

    async def cli(self, *arguments: str, **more: Any) -> tuple[int, str, str]:
        """Run another command on the same data folder."""
        return await celeriac(*arguments, "--data-dir", str(self.data_dir), **more)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # Prefixes are padded to the longest role so far; that is nothing to test against.
            self.lines.append(re.sub(r"^(\S+) +\|", r"\1 |", line.rstrip("\n")))


def alive(process: psutil.Process) -> bool:
    """Say whether a process still runs (a zombie does not)."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
