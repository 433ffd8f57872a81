"""Fixtures for pytest. To use them: `pytest_plugins = ["celeriac.testing.pytest_plugin"]`.

`celeriac_platform`   the platform; it starts with the first test that uses it, and all tests of the session share it
`celeriac_client`     a client of the platform
`celeriac_settings`   the settings of the platform: override this fixture to change them
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest

from celeriac.client import Client
from celeriac.testing.temporary_platform import Platform, platform

#: Lines of the platform's output that the report of a failed test shows.
_SHOWN = 100


@pytest.fixture(scope="session")
def celeriac_settings() -> Mapping[str, Any]:
    """Settings of the platform. Override it with a fixture of your own, also of scope `session`."""
    return {}


@pytest.fixture(scope="session")
def celeriac_platform(celeriac_settings: Mapping[str, Any], pytestconfig: pytest.Config) -> Iterator[Platform]:
    """The platform for all tests of the session. Uses the `celeriac.yaml` of pytest's root folder if there is one."""
    config = pytestconfig.rootpath / "celeriac.yaml"
    with platform(config=config if config.is_file() else None, settings=celeriac_settings) as running:
        yield running


@pytest.fixture
def celeriac_client(celeriac_platform: Platform) -> Client:
    """A client of the platform that may do everything."""
    return celeriac_platform.client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last output of the platform to the report of a failed test that used it."""
    report = yield
    running = getattr(item, "funcargs", {}).get("celeriac_platform")
    if report.failed and isinstance(running, Platform):
        report.sections.append(("celeriac platform", running.output(_SHOWN)))
    return report
