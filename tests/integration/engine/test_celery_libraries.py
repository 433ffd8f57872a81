"""Sentry and OpenTelemetry in an adopted project, set up as their documentation says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import output_of
from tests.kit.workers.engine_workers import Workers, ended
from tests.kit.workers.sentry_sink import SentrySink

PROJECT = "tests.kit.workers.watched_project"


@pytest.fixture
def sink() -> Iterator[SentrySink]:
    started = SentrySink()
    yield started
    started.stop()


@pytest.mark.fresh_python
async def test_errors_reach_sentry_and_a_publication_and_its_run_are_one_trace(
    workers: Workers, store: TaskStore, tmp_path: Path, sink: SentrySink
) -> None:
    spans = tmp_path / "spans"
    environment = {**workers.environment(imports=[]), "SHOP_BROKER": workers.redis_url, "SENTRY_DSN": sink.dsn}
    environment["SPANS"] = str(spans)
    command = [sys.executable, "-m", "celery", "-A", PROJECT, "worker", "-P", "prefork", "-c", "1"]
    await workers.start_command(store, command, environment={**environment, "IN_PROCESSES": "1"})
    program = f"from {PROJECT} import *\nprint(add.delay(1, 2).id, fails.delay('pen').id)"
    added, failed = (await output_of([sys.executable, "-c", program], environment)).split()
    assert (await ended(store, added)).result == 3
    assert (await ended(store, failed)).status is Status.FAILED

    def error() -> dict[str, Any] | None:
        return next(iter(sink.of_kind("event")), None)

    event = await eventually(error, because="Sentry hears of the error")
    assert event["exception"]["values"][-1]["type"] == "OutOfStockError"
    assert event["transaction"] == "watched.fails"
    assert event["extra"]["celery-job"]["task_name"] == "watched.fails"
    assert len(sink.of_kind("event")) == 1

    def traced() -> set[str]:
        return {item["transaction"] for item in sink.of_kind("transaction")}

    await eventually(lambda: {"watched.add", "watched.fails"} <= traced(), because="Sentry hears of both runs")

    def span(name: str) -> dict[str, Any] | None:
        lines = spans.read_text("utf-8").splitlines() if spans.exists() else []
        return next((found for found in map(json.loads, lines) if found["name"] == name), None)

    run = await eventually(lambda: span("run/watched.add"), because="the run is a span")
    published = span("apply_async/watched.add")
    assert published is not None
    assert run["context"]["trace_id"] == published["context"]["trace_id"]
    assert run["parent_id"] == published["context"]["span_id"]
    assert run["attributes"]["celery.state"] == "SUCCESS"
    broken = await eventually(lambda: span("run/watched.fails"), because="the failed run is a span")
    assert broken["status"]["status_code"] == "ERROR"
