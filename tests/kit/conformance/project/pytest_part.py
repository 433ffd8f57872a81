"""Tests of the project, as it writes them with Celery's fixtures."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain

from tests.kit.conformance.project import app, tasks


@pytest.fixture(scope="session")
def celery_session_app() -> Any:
    return app


@pytest.fixture(scope="session")
def celery_worker_parameters() -> dict[str, Any]:
    return {"perform_ping_check": False}


def test_a_call(celery_session_app: Any, celery_session_worker: Any) -> None:
    assert tasks.add.delay(1, 2).get(timeout=20) == 3


def test_a_failure(celery_session_app: Any, celery_session_worker: Any) -> None:
    with pytest.raises(ValueError, match="boom"):
        tasks.failing.delay().get(timeout=20)


def test_a_chain(celery_session_app: Any, celery_session_worker: Any) -> None:
    assert chain(tasks.add.s(1, 2), tasks.add.s(3)).delay().get(timeout=20) == 6
