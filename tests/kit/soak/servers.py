"""The platform under soak: its servers, its processes, and how to reach them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from celeriac.database.migrating import migrate
from celeriac.settings import Settings
from celeriac.up.embedded import EmbeddedStore, PingAnswer
from tests.kit.command_line import CELERIAC, REPOSITORY, clean_environment
from tests.kit.servers import free_port
from tests.kit.soak.processes import Processes, Role
from tests.kit.waiting import eventually

#: The user that owns a PostgreSQL of our own, because the server refuses to run as root.
_POSTGRES = "postgres"


@dataclass(frozen=True)
class Plan:
    """What is started. `database` is `sqlite`, `postgresql` (a server of our own) or the URL of a database."""

    folder: Path
    database: str
    retention_s: int
    upload_ttl_s: int


class SoakPlatform:
    """Two API processes, two workers, two beats, two remote workers, an executor, a producer, and the servers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder
        self.processes = Processes()
        self.http_ports = [free_port(), free_port()]
        self.grpc_ports = [free_port(), free_port()]
        self.incoming = self.folder / "incoming"
        self.storage = self.folder / "storage"
        self.uploads = self.folder / "data" / "uploads"
        self.marks = self.folder / "marks"
        self.produced = self.folder / "produced.jsonl"
        self._executor_port = free_port()
        self._store = EmbeddedStore(self.folder / "data", durability="everysec")
        self.database_url = ""

    @property
    def urls(self) -> list[str]:
        """The addresses of the API processes."""
        return [f"http://127.0.0.1:{port}" for port in self.http_ports]

    @property
    def store_url(self) -> str:
        """The address of the store."""
        return self._store.url

    def settings(self) -> Settings:
        """Return the settings that the processes have, for tokens and connections."""
        return Settings.model_validate({**self._config(), "data_dir": str(self.folder / "data")})

    def _config(self) -> dict[str, Any]:
        return {
            "imports": ["tests.kit.soak.types"],
            "retention": self.plan.retention_s,
            "group_retention": "7d",
            "worker": {"threads": 8},
            "grpc_services": {
                "services": {
                    "demo": {"address": f"127.0.0.1:{self._executor_port}", "max_retries": 30, "timeout": "60s"}
                }
            },
            "dispatch": {"task_result_ttl_ms": self.plan.retention_s * 1000},
            "files": {
                "storage_path": str(self.storage),
                "upload_path": str(self.uploads),
                "allowed_roots": [str(self.incoming), str(self.uploads)],
                "upload_ttl": self.plan.upload_ttl_s,
                "processing": {"chains": {"video": ["checksum", "compress"]}, "concurrency": 2},
            },
            "notifications": {"max_messages": 100_000, "start_within": "60s", "silence": "60s"},
            "schedule": {"catchup_window": "1h"},
        }

    async def start(self) -> None:
        """Start the servers, then the rest; returns when both APIs answer."""
        for folder in (self.incoming, self.storage, self.uploads, self.folder / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "celeriac.yaml").write_text(yaml.safe_dump(self._config()))
        self._store.prepare()
        self._add("store", "store", self._store.argv, cwd=self._store.folder, environment=dict(os.environ)).start()
        await self._open_database()

        async def answers() -> bool:
            return await self._store.ping() is PingAnswer.PONG

        await eventually(answers, because="the store answers", timeout_s=60)
        migrate(self.database_url)
        environment = clean_environment(
            REDIS_URL=self.store_url,
            DATABASE_URL=self.database_url,
            CELERIAC_CONFIG=str(self.folder / "celeriac.yaml"),
            CELERIAC_DATA_DIR=str(self.folder / "data"),
            CELERIAC_LOG_FORMAT="console",
            PYTHONUNBUFFERED="1",
            SOAK_MARKS=str(self.marks),
            SOAK_PRODUCED=str(self.produced),
        )
        for number, (port, grpc_port) in enumerate(zip(self.http_ports, self.grpc_ports, strict=True), 1):
            ports = ("--port", str(port), "--grpc-port", str(grpc_port))
            self._add(f"api-{number}", "api", (*CELERIAC, "api", *ports), environment)
            self._add(f"worker-{number}", "worker", (*CELERIAC, "worker"), environment)
            self._add(f"beat-{number}", "beat", (*CELERIAC, "beat"), environment)
            remote = ("remote-worker", "tests.kit.soak.types:handle_remotely", "--group", "gpu", "--concurrency", "4")
            address = ("--url", f"http://127.0.0.1:{port}", "--model", "parrot")
            self._add(f"remote-{number}", "remote", (*CELERIAC, *remote, *address), environment)
        executor = ("examples/python_service/server.py", "--port", str(self._executor_port))
        self._add("executor", "executor", (sys.executable, *executor), environment)
        self._add("producer", "producer", (sys.executable, "-m", "tests.kit.soak.producer"), environment)
        self.processes.start_all()

    def _add(
        self, name: str, kind: str, command: tuple[str, ...], environment: dict[str, str], cwd: Path = REPOSITORY
    ) -> Role:
        return self.processes.add(Role(name, kind, command, environment, self.folder, cwd))

    async def _open_database(self) -> None:
        if self.plan.database == "sqlite":
            self.database_url = f"sqlite:///{self.folder / 'data' / 'history.db'}"
        elif self.plan.database == "postgresql":
            await self._start_postgresql()
        else:
            self.database_url = self.plan.database

    async def _start_postgresql(self) -> None:
        programs = _postgresql_programs()
        data, port = self.folder / "postgresql", free_port()
        data.mkdir()
        user = None
        if os.getuid() == 0:
            user = _POSTGRES
            owner = pwd.getpwnam(user)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", _POSTGRES, "--auth=trust", "--no-sync"],
            check=True, user=user, cwd="/", stdout=subprocess.DEVNULL,
        )  # fmt: skip
        options = ["-D", str(data), "-p", str(port), "-k", str(data), "-c", "listen_addresses=127.0.0.1"]
        role = Role(
            "database", "database", (str(programs / "postgres"), *options), dict(os.environ), self.folder, Path("/")
        )
        role.user = user
        self.processes.add(role).start()
        self.database_url = f"postgresql://{_POSTGRES}@127.0.0.1:{port}/postgres"

        def answers() -> bool:
            try:
                psycopg.connect(self.database_url, connect_timeout=2).close()
            except psycopg.OperationalError:
                return False
            return True

        await eventually(answers, because="PostgreSQL answers", timeout_s=60, interval_s=0.2)


def _postgresql_programs() -> Path:
    """Return the folder of PostgreSQL's server programs; raises `SystemExit` if there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders:
        raise SystemExit("PostgreSQL's initdb is not installed: install it, or use DATABASE=sqlite or a URL")
    return folders[0]
