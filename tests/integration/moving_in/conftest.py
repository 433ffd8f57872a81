"""A store and a database of its own for each project."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from celeriac.database.migrating import migrate
from celeriac.settings import Settings
from tests.kit.celery_projects import run_program
from tests.kit.command_line import celeriac


@dataclass
class Project:
    """A folder with a Celery project, and the addresses that it uses."""

    folder: Path
    redis_url: str
    database_url: str
    #: None means: its Redis.
    broker_url: str | None = None

    @property
    def settings(self) -> Settings:
        """The platform's settings for it."""
        return Settings(redis_url=self.redis_url, database_url=self.database_url)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its programs."""
        addresses = {"SHOP_BROKER": self.broker_url or self.redis_url, "DATABASE_URL": self.database_url}
        return addresses if self.broker_url is None else {**addresses, "REDIS_URL": self.redis_url}

    async def imports(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run `celeriac adopt --import-schedules`, and return what it prints."""
        code, out, err = await celeriac(
            "adopt", "--import-schedules", name, "--json", *arguments, cwd=self.folder, **self.environ
        )
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    async def program(self, text: str) -> str:
        """Run a Python program of the project."""
        return await run_program(self.folder, text, **self.environ)


@pytest.fixture
def project(valkey_url: str, tmp_path: Path) -> Project:
    database_url = f"sqlite:///{tmp_path}/history.db"
    migrate(database_url)
    return Project(tmp_path, valkey_url, database_url)
