"""API processes of a test's own, on one store, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.kit.command_line import REPOSITORY
from tests.kit.servers import free_port
from tests.kit.waiting import eventually, serves


class ApiProcess:
    """One `celeriac api`; what it prints goes to a file of the folder."""

    def __init__(self, folder: Path, redis_url: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"api-{self.port}.log"
        self._environment = {"REDIS_URL": redis_url, "CELERIAC_DATA_DIR": str(folder), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "celeriac", "api", "--port", str(self.port), "--grpc-port", str(free_port())]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self._environment}
            )
        async with httpx.AsyncClient(timeout=60, base_url=self.url) as client:
            because = f"the API answers, see {self._log}"
            await eventually(lambda: serves(client, "/readyz"), because=because, timeout_s=60)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def said(self) -> str:
        """Return its output so far."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def _end(self, how: Any) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None
