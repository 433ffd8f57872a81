"""An API in a process of its own, and a client that notes how long `/healthz` takes meanwhile."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeVar

import httpx

from celeriac.database.migrating import migrate
from tests.kit.command_line import CELERIAC, clean_environment
from tests.kit.servers import free_port

#: How much longer `/healthz` may take than it takes to read a long body as JSON in this run.
FACTOR = 5

T = TypeVar("T")


class Health:
    """Asks for `/healthz` all the time on one connection, and notes how long each answer took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        #: When each question began and how long its answer took (seconds).
        self.answers: list[tuple[float, float]] = []

    def __enter__(self) -> Health:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join(30)

    def longest_s(self, begun: float) -> float:
        """Return the longest answer since `begun`, also of a question that was asked before and answered after."""
        return max((took for at, took in self.answers[-3000:] if at + took >= begun), default=0.0)

    def held_up_s(self, limit_s: float, act: Callable[[], T]) -> tuple[float, T]:
        """Do something; return the longest answer meanwhile and what it returned.

        Another program may have had the processor, so what takes longer than `limit_s` is done up to three times.
        """
        for _ in range(3):
            begun = time.monotonic()
            result = act()
            longest_s = self.longest_s(begun)
            if longest_s <= limit_s:
                break
        return longest_s, result

    def limit_s(self) -> float:
        """Return how long an answer may take: some times as long as this process needs to read a long body as JSON."""
        begun = time.monotonic()
        json.loads(b"[" + b"[]," * 1_000_000 + b"1]")
        reading_s = time.monotonic() - begun
        time.sleep(0.5)
        usual_s = statistics.median(took for _, took in self.answers)
        return FACTOR * max(reading_s, 20 * usual_s)

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._end.is_set():
            begun = time.monotonic()
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            self.answers.append((begun, time.monotonic() - begun))
            self._end.wait(0.02)


@contextmanager
def api(valkey_url: str, folder: Path, **environment: str) -> Iterator[tuple[int, int]]:
    """Serve the API in a process of its own; yields its ports of HTTP and gRPC. `log_of` returns its errors."""
    database, port, grpc_port = f"sqlite:///{folder / 'history.db'}", free_port(), free_port()
    migrate(database)
    with _log(folder).open("wb") as log:
        process = subprocess.Popen(
            [*CELERIAC, "api", "--port", str(port), "--grpc-port", str(grpc_port), "--data-dir", str(folder)],
            env=clean_environment(
                REDIS_URL=valkey_url, DATABASE_URL=database, CELERIAC_LOG_LEVEL="error", **environment
            ),
            cwd=folder,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(600):
                try:
                    assert client.get("/readyz").status_code == 200
                    break
                except (httpx.TransportError, AssertionError):
                    assert process.poll() is None, log_of(folder)
                    time.sleep(0.1)
        yield port, grpc_port
    finally:
        process.kill()
        process.wait(10)


def log_of(folder: Path) -> str:
    """Return the errors that the process of `api` has logged."""
    return _log(folder).read_text()


def _log(folder: Path) -> Path:
    return folder / "api.log"
