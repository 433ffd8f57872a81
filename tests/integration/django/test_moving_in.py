"""A project with django-celery-results moves in: its ended tasks are in the history."""

from __future__ import annotations

import asyncio

from celeriac.history.history import History
from celeriac.model import Status
from tests.kit.django.project import DjangoProject

ROWS = """
from django_celery_results.models import TaskResult

def row(task_id, status, **more):
    TaskResult.objects.create(
        task_id=task_id, task_name="shop.add", status=status, content_type="application/json", content_encoding="utf-8",
        **more,
    )

row("kept-1", "SUCCESS", task_args='"(2, 3)"', task_kwargs='"{}"', result="5", worker="celery@one")
row("kept-2", "SUCCESS", task_args="[1]", task_kwargs='{"by": "ada"}', result='{"total": 1}')
row("kept-3", "FAILURE", task_args='"(<object at 0x1>,)"', result='{"exc_type": "ValueError", "exc_message": ["no"]}')
row("kept-4", "REVOKED", result='{"exc_type": "TaskRevokedError", "exc_message": ["revoked"]}')
row("kept-5", "STARTED")
value = TaskResult.objects.count()
"""


async def test_ended_tasks_are_in_the_history_and_a_second_import_changes_nothing(project: DjangoProject) -> None:
    project.environment["SHOP_APPS"] = "django_celery_results"
    await asyncio.to_thread(project.manage, "migrate", "--verbosity", "0")
    assert await asyncio.to_thread(project.script, ROWS) == 5
    for _ in range(2):
        said = (await asyncio.to_thread(project.manage, "celeriac", "import")).stdout
        assert "4 results are in the history; 1 have not ended" in said
    async with History(project.environment["DATABASE_URL"]) as history:
        found = {one: (await history.get(one)).task for one in ("kept-1", "kept-2", "kept-3", "kept-4")}
    assert {one.status for one in found.values()} == {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    assert (found["kept-1"].type, found["kept-1"].payload, found["kept-1"].result) == (
        "shop.add",
        {"args": [2, 3], "kwargs": {}},
        5,
    )
    assert (found["kept-2"].payload, found["kept-2"].result) == (
        {"args": [1], "kwargs": {"by": "ada"}},
        {"total": 1},
    )
    assert found["kept-3"].payload["args"] == "(<object at 0x1>,)"
    assert found["kept-3"].error is not None
    assert (found["kept-3"].error.code, found["kept-3"].error.message) == ("task_failed", "ValueError: no")
    assert found["kept-4"].metadata == {"imported_from": "django_celery_results"}
    assert all(one.finished_at is not None for one in found.values())
