"""A copy of the example project on a store and a database of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from tests.kit.command_line import REPOSITORY
from tests.kit.workers.engine_workers import WorkerProcess, Workers

PROJECT = REPOSITORY / "examples" / "django"
#: What a script prints before its last line, which is its value as JSON.
_MARK = "value of the script: "


class DjangoProject:
    """Runs commands and scripts of the project; its tables are there."""

    def __init__(self, folder: Path, redis_url: str, database_url: str) -> None:
        self.folder = folder
        self.workers = Workers(folder, redis_url)
        self.environment = {
            **self.workers.environment(imports=[], outbox__lease=1, outbox__poll=0.1),
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": f"{PROJECT}:{REPOSITORY}",
            "DATABASE_URL": f"sqlite:///{folder / 'history.db'}",
            "CELERIAC_LEDGER__IN_WORKERS": "true",
        }
        self.environment |= (
            {"SHOP_SQLITE": str(folder / "shop.sqlite3")}
            if database_url.startswith("sqlite")
            else {"SHOP_DATABASE": database_url}
        )
        del self.environment["CELERIAC_IMPORTS"]
        self.manage("migrate", "--verbosity", "0")
        self.manage("celeriac", "migrate")

    def manage(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` to its end; fail if it fails."""
        ended = subprocess.run(
            [sys.executable, str(PROJECT / "manage.py"), *arguments],
            cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        return ended

    def script(self, body: str, **environment: str) -> Any:
        """Run Python of a program of the project; returns what it assigns to `value`, through JSON."""
        whole = f"import django; django.setup()\n{body}\nimport json\nprint({_MARK!r} + json.dumps(value))"
        ended = subprocess.run(
            [sys.executable, "-c", whole],
            cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        return orjson.loads(ended.stdout.rpartition(_MARK)[2])

    async def worker(self, store: Any) -> WorkerProcess:
        """Start `manage.py celeriac worker`."""
        command = [sys.executable, str(PROJECT / "manage.py"), "celeriac", "worker"]
        return await self.workers.start_command(store, command, environment=self.environment)

    def beside(self, body: str) -> subprocess.Popen[bytes]:
        """Start Python of a program of the project, and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-c", f"import django; django.setup()\n{body}"],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
