"""Celery's fixtures for pytest, with the app of the project."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.kit.conformance.probing import probe
from tests.kit.conformance.project import pytest_part


class Outcomes:
    """Collects how each test ends."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.failed:
            name = report.nodeid.rpartition("::")[2]
            self.found.append([name, report.when, report.outcome, str(report.longrepr)[-200:] if report.failed else ""])


@probe
def celery_app_and_celery_worker() -> Any:
    outcomes = Outcomes()
    # Other plugins of this installation are none of the project's, and take seconds to import.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["--noconftest", "-p", "celery.contrib.pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "-q"]
    code = pytest.main([*options, "--rootdir", "/", pytest_part.__file__], plugins=[outcomes])
    return [int(code), outcomes.found]
