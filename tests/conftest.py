"""Fixtures: one Valkey for the session, an empty database of it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest
import redis as redis_sync

from celeriac import violations
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit import warm_python
from tests.kit.costs import Costs, Foretelling, longest_first, saved_costs
from tests.kit.databases import KINDS, MigratedDatabases
from tests.kit.servers import ValkeyServer

_DATABASES = 16
_next_database = count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="print the CPU time of tests, their processes included")
    parser.addoption("--save-costs", action="store_true", help="print it, and write it to tests/costs.json")


def pytest_configure(config: pytest.Config) -> None:
    # An example that takes long tells of a busy machine, not of a fault.
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")
    config.addinivalue_line("markers", "fresh_python: programs of this test start in an interpreter of their own")
    warm_python.install()
    if config.getoption("costs") or config.getoption("save_costs"):
        config.pluginmanager.register(Costs(save=config.getoption("save_costs")))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Foretelling(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first(items, saved_costs())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    unit = "unit" in item.path.relative_to(item.config.rootpath).parts
    warm_python.use(not unit and item.get_closest_marker("fresh_python") is None)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey of our own, alive for the whole session; tests that kill one start their own."""
    server = ValkeyServer(Path(tmp_path_factory.mktemp("valkey")), databases=_DATABASES)
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def full_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin as a process does, with all the time for suggestions: the tests before it have used some."""
    monkeypatch.setattr(violations, "_SUGGESTING", violations._Allowance())


@pytest.fixture
def valkey_url(valkey: ValkeyServer) -> str:
    """The URL of an empty database. They take turns, so that one left busy by a test disturbs no neighbour."""
    url = valkey.url(next(_next_database) % _DATABASES)
    with redis_sync.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def settings() -> Settings:
    """Settings by default, whatever the environment says."""
    return Settings()


@pytest.fixture
async def store(valkey_url: str, settings: Settings) -> AsyncIterator[TaskStore]:
    """A connected store on an empty database."""
    async with TaskStore(valkey_url, settings.store) as connected:
        yield connected


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MigratedDatabases]:
    """Migrated, empty databases; all are gone at the end of the session."""
    made = MigratedDatabases(tmp_path_factory.mktemp("databases"))
    yield made
    made.drop()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, databases: MigratedDatabases, tmp_path: Path) -> str:
    """The URL of a migrated, empty database, once of each kind."""
    return databases.url(request.param, tmp_path)
