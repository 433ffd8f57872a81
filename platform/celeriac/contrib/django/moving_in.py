"""`manage.py celeriac import`: what a project has in the tables of django-celery-beat and django-celery-results.

The schedules become definitions (`celeriac adopt --import-schedules`), and the results of ended tasks go into the
history. Nothing is taken away: a second import changes nothing.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.apps import apps
from django.utils import timezone

from celeriac import json_text
from celeriac.database.engine import create_engine
from celeriac.database.migrating import check
from celeriac.errors import JsonError, SettingsError
from celeriac.history.rows import row_of
from celeriac.history.writing import Writer
from celeriac.installation.discovery import joined_settings
from celeriac.model import Status, rfc3339
from celeriac.settings import Settings

_RESULTS: Final = "django_celery_results"
#: Celery's states of tasks that have ended.
_ENDED: Final = {"SUCCESS": Status.COMPLETED, "FAILURE": Status.FAILED, "REVOKED": Status.CANCELLED}
#: Results that are written in one transaction.
_BATCH: Final = 500


def import_results() -> tuple[int, int]:
    """Write the ended tasks of django-celery-results into the history; returns how many, and how many have not ended.

    Raises `SettingsError` if the project does not have that app, and `HistoryMissingError` without tables.
    """
    if not apps.is_installed(_RESULTS):
        raise SettingsError(f"{_RESULTS} is not in INSTALLED_APPS: there are no results to import")
    settings, _ = joined_settings(None, None)
    rows = apps.get_model(_RESULTS, "TaskResult").objects.order_by("pk").iterator(chunk_size=_BATCH)
    done = left = 0
    while page := list(islice(rows, _BATCH)):
        ended = {one.task_id: row_of(record_of(one)) for one in page if one.status in _ENDED}
        asyncio.run(_write(settings, ended))
        done, left = done + len(ended), left + len(page) - len(ended)
    return done, left


async def _write(settings: Settings, rows: dict[str, dict[str, Any]]) -> None:
    engine = create_engine(settings.history_url)
    try:
        await check(engine)
        await Writer(engine, progress=settings.ledger.progress).write(rows, [])
    finally:
        await engine.dispose()


def record_of(result: Any) -> dict[str, str]:
    """Return an ended task of django-celery-results as the store would have its record."""
    status = _ENDED[result.status]
    record = {
        "task_id": result.task_id,
        "type": result.task_name or "",
        "queue": "default",
        "status": status.stored,
        "payload": json_text.write({"args": _read(result.task_args, []), "kwargs": _read(result.task_kwargs, {})}),
        "created_at": _moment(result.date_created),
        "updated_at": _moment(result.date_done),
        "finished_at": _moment(result.date_done),
        "metadata": json_text.write({"imported_from": _RESULTS}),
    }
    if result.date_started is not None:
        record["started_at"] = _moment(result.date_started)
    if status is Status.COMPLETED:
        record["result"] = json_text.write(_read(result.result, None))
    else:
        record |= dict(_error(result, status))
    return record


def _error(result: Any, status: Status) -> Iterator[tuple[str, str]]:
    said = _read(result.result, {})
    kind = said.get("exc_type", "") if isinstance(said, dict) else ""
    texts = said.get("exc_message", "") if isinstance(said, dict) else said
    text = " ".join(map(str, texts)) if isinstance(texts, list | tuple) else str(texts)
    yield "error_code", "cancelled" if status is Status.CANCELLED else "task_failed"
    yield "error_message", f"{kind}: {text}" if kind and text else kind or text or result.status.lower()
    yield "error_retryable", "0"


def _read(text: str | None, otherwise: Any) -> Any:
    """Return what Celery stored: JSON, in which there may be a text of Python, or a text that is neither."""
    if not text:
        return otherwise
    value: Any = text
    try:
        value = json_text.read(text)
        if isinstance(value, str) and value[:1] in "([{":
            value = json_text.read(json_text.write(ast.literal_eval(value)))
    except (JsonError, ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    return value


def _moment(value: datetime) -> str:
    return rfc3339(value if timezone.is_aware(value) else timezone.make_aware(value))
