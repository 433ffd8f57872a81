"""A pytest plugin for Celery's tests: it hands them the app in question, and notes how each test ends.

Celery's fixtures make all their apps with `celery.contrib.testing.app.TestApp`, which this plugin wraps.

    stock    the app as Celery makes it
    adopted  the same app, adopted: result backend, pool and queue stay Celery's
    own      the platform's own app: our result backend, our pool, and our configuration
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing import app as celerys_apps
from celery.contrib.testing import worker as celerys_workers

#: Which app; where to write outcomes (lines of JSON); how long a test and a wait in it may take (seconds).
APP, OUTCOMES, LIMIT, WAIT = "CELERY_SUITE_APP", "CELERY_SUITE_OUTCOMES", "CELERY_SUITE_LIMIT", "CELERY_SUITE_WAIT"

_POOL = "celeriac_tasks.engine.pools.pool:TaskPool"
_BACKEND = "celeriac_tasks.engine.results:RecordBackend"


def pytest_configure(config: pytest.Config) -> None:
    chosen = os.environ[APP]
    if chosen == "adopted":
        celerys_apps.TestApp = _adopting(celerys_apps.TestApp)
    elif chosen == "own":
        celerys_apps.TestApp = _own_app
        celerys_workers.start_worker = _in_our_pool(celerys_workers.start_worker)
    config.pluginmanager.register(Outcomes(Path(os.environ[OUTCOMES])))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shorten the time limits of tests, so that one that hangs does not take five minutes."""
    limit, wait = float(os.environ[LIMIT]), float(os.environ[WAIT])
    for item in items:
        item.add_marker(pytest.mark.timeout(limit, method="signal"), append=False)
        module: Any = getattr(item, "module", None)
        if getattr(module, "TIMEOUT", 0) > wait:
            module.TIMEOUT = wait


def _adopting(make: Callable[..., Any]) -> Callable[..., Any]:
    from celeriac import adopt

    return lambda *args, **options: adopt(make(*args, **options))


def _own_app(*args: Any, config: Any = None, **options: Any) -> Any:
    from celery.contrib.testing import tasks  # noqa: F401 - registers a task

    from celeriac.settings import Settings, WorkerSettings
    from celeriac_tasks.adoption.adopting import own_app

    app = own_app(lambda: Settings(redis_url=config["broker_url"], worker=WorkerSettings(groups="celery")))
    # The setting of the backend stays: many tests read it, and skip themselves without Redis.
    app.backend_cls = _BACKEND
    wanted = {**celerys_apps.DEFAULT_TEST_CONFIG, **config}
    kept = {name: value for name, value in wanted.items() if name != "broker_url"}
    assert app.conf.broker_url, "reading a setting configures the app, which would override what is set before"
    app.conf.update(kept, task_default_queue="celery", task_default_routing_key="celery")
    return app


def _in_our_pool(start: Callable[..., Any]) -> Callable[..., Any]:
    def start_worker(app: Any, **options: Any) -> Any:
        return start(app, **{**options, "pool": _POOL})

    return start_worker


class Outcomes:
    """Writes a line for each test that is collected, begins or ends; so what a crash leaves is known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reports: list[pytest.TestReport] = []

    def _write(self, **line: Any) -> None:
        with self._path.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._write(collected=[item.nodeid for item in session.items])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._reports = []
        self._write(begun=item.nodeid)
        try:
            return (yield)
        finally:
            outcome, why = _outcome(self._reports)
            seconds = round(sum(report.duration for report in self._reports), 2)
            self._write(test=item.nodeid, outcome=outcome, why=why, seconds=seconds)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)


def _outcome(reports: list[pytest.TestReport]) -> tuple[str, str]:
    """Return how a test ended by its phases, and the last line of the reason."""
    for report in reports:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            return "failed", str(crash.message if crash else report.longrepr)[:2000]
    for report in reports:
        if report.skipped:
            if hasattr(report, "wasxfail"):
                return "xfailed", str(report.wasxfail)
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            return "skipped", str(reason)[:500]
    return ("passed", "") if reports else ("failed", "the test did not run")
