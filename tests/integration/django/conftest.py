"""The example project on both kinds of databases: one with a worker for all tests of a file, and new ones without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.databases import KINDS, empty_database
from tests.kit.django.project import DjangoProject
from tests.kit.servers import ValkeyServer


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the project's database."""
    return str(request.param)


@pytest.fixture
def project(tmp_path: Path, valkey_url: str, kind: str) -> Iterator[DjangoProject]:
    """The project, once on each kind of database."""
    with empty_database(kind, tmp_path) as url:
        made = DjangoProject(tmp_path, valkey_url, url)
        yield made
        made.workers.kill_all()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Iterator[DjangoProject]:
    """The project with a worker, once on each kind of database."""
    folder = tmp_path_factory.mktemp("django")
    server = ValkeyServer(folder / "valkey")
    server.start()
    try:
        with empty_database(kind, folder) as url:
            made = DjangoProject(folder, server.url(), url)
            made.environment |= {"SHOP_APPS": "tests.kit.django.behaviour", "HEARD": str(folder / "heard.txt")}
            try:
                asyncio.run(_started(made))
                yield made
            finally:
                made.workers.kill_all()
    finally:
        server.kill()


async def _started(project: DjangoProject) -> None:
    async with TaskStore(project.workers.redis_url, Settings().store) as store:
        await project.worker(store)


@pytest.fixture
async def its_store(running: DjangoProject) -> TaskStore:
    """The store of the project that runs."""
    return TaskStore(running.workers.redis_url, Settings().store)
