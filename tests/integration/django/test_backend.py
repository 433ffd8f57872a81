"""Django's tasks on Celeriac: what `django.tasks` promises, with a worker of `manage.py celeriac worker`."""

from __future__ import annotations

import asyncio

import pytest

from celeriac.model import Status
from celeriac.store.counts import read_counts
from celeriac.store.task_store import TaskStore
from tests.kit.django.project import PROJECT, DjangoProject
from tests.kit.waiting import eventually

#: What each script begins with.
BEGIN = """
import asyncio, time
from datetime import timedelta
from django.db import transaction
from django.utils import timezone
from orders.models import Order
from orders.tasks import (
    count_orders, count_orders_async, pack, refuse, send_receipt, surroundings
)
from celeriac.contrib.django import submit_in

def ended(result):
    for _ in range(900):
        result.refresh()
        if result.is_finished:
            return result
        time.sleep(0.1)
    raise AssertionError(f"{result} does not end")
"""


async def script(project: DjangoProject, body: str) -> object:
    return await asyncio.to_thread(project.script, BEGIN + body)


async def test_tasks_run_however_they_are_enqueued(running: DjangoProject) -> None:
    value = await script(
        running,
        """
order = Order.objects.create(customer="Ada", pieces=2)
value = []
for backend in ("default", "at_once", "on_commit"):
    for task, args in ((count_orders, ()), (count_orders_async, ()), (send_receipt, (order.pk,))):
        with transaction.atomic():
            result = task.using(backend=backend).enqueue(*args)
        ended(result)
        returned = result.return_value if args else result.return_value == Order.objects.count()
        value.append([backend, task.name, result.status, returned, result.attempts, len(result.worker_ids)])
value.append(str(order))
""",
    )
    assert isinstance(value, list)
    order = value.pop()
    assert value == [
        [backend, task, "SUCCESSFUL", returned, 1, 1]
        for backend in ("default", "at_once", "on_commit")
        for task, returned in (
            ("count_orders", True),
            ("count_orders_async", True),
            ("send_receipt", f"{order}, attempt 1"),
        )
    ]


async def test_a_result_tells_all_that_django_asks_for(running: DjangoProject) -> None:
    value = await script(
        running,
        """
before = timezone.now()
result = refuse.enqueue(7)
first = [result.status, result.is_finished, result.attempts, result.errors, result.started_at is None]
ended(result)
error = result.errors[0]
again = refuse.get_result(result.id)
moments = [before, result.enqueued_at, result.started_at, result.finished_at, timezone.now()]
try:
    result.return_value
except ValueError as exc:
    refused = str(exc)
value = {
    "first": first,
    "last": [result.status, result.is_finished, result.attempts, result.args, result.kwargs, result.backend],
    "error": [error.exception_class_path, error.traceback.splitlines()[0], error.traceback.splitlines()[-1]],
    "same": again == result,
    "in order": all(a <= b + timedelta(seconds=1) for a, b in zip(moments, moments[1:])),
    "refused": refused,
}
""",
    )
    assert value == {
        "first": ["READY", False, 0, [], True],
        "last": ["FAILED", True, 1, [7], {}, "default"],
        "error": [
            "orders.models.Order.DoesNotExist",
            "Traceback (most recent call last):",
            "orders.models.Order.DoesNotExist: there is no order 7",
        ],
        "same": True,
        "in order": True,
        "refused": "Task failed",
    }


async def test_priority_queue_time_and_retries_are_celeriacs(running: DjangoProject, its_store: TaskStore) -> None:
    value = await script(
        running,
        """
order = Order.objects.create(customer="Ada")
later = timezone.now() + timedelta(hours=1)
once = {"run_after": later, "backend": "at_once"}
ids = {
    "mail": send_receipt.enqueue(order.pk).id,
    "low": send_receipt.using(priority=-100, queue_name="default", **once).enqueue(order.pk).id,
    "high": count_orders.using(priority=100, **once).enqueue().id,
}
flaky = ended(send_receipt.enqueue(order.pk, times=3))
again = send_receipt.get_result(ids["low"]).task
near = abs(again.run_after - later) < timedelta(milliseconds=1)
value = [ids, flaky.return_value, flaky.attempts, [again.priority, again.queue_name, near]]
""",
    )
    assert isinstance(value, list)
    ids, returned, attempts, again = value
    assert returned.endswith(" of Ada, attempt 3")
    assert attempts == 3
    assert again == [-100, "default", True]
    records = {name: await its_store.get(task_id) for name, task_id in ids.items()}
    assert {name: (one.priority, one.group) for name, one in records.items()} == {
        "mail": (6, "mail"),
        "low": (0, "default"),
        "high": (9, "default"),
    }
    assert {records[name].status for name in ("low", "high")} == {Status.SCHEDULED}


async def test_asyncio_has_the_same(running: DjangoProject) -> None:
    value = await script(
        running,
        """
async def main():
    found = []
    for backend in ("at_once", "on_commit", "default"):
        result = await count_orders_async.using(backend=backend).aenqueue()
        while not result.is_finished:
            await asyncio.sleep(0.1)
            await result.arefresh()
        same = await count_orders_async.aget_result(result.id)
        found.append([backend, result.return_value == await Order.objects.acount(), same.status])
    return found

value = asyncio.run(main())
""",
    )
    assert value == [[backend, True, "SUCCESSFUL"] for backend in ("at_once", "on_commit", "default")]


async def test_what_is_rolled_back_is_not_enqueued(running: DjangoProject, its_store: TaskStore) -> None:
    value = await script(
        running,
        """
value = []
for backend in ("default", "on_commit"):
    try:
        with transaction.atomic():
            value.append(count_orders.using(backend=backend).enqueue().id)
            raise RuntimeError
    except RuntimeError:
        pass
with transaction.atomic():
    packed = submit_in("default", pack, order=Order.objects.create(customer="Ada", pieces=3).pk)
value.append(packed.result(timeout=60))
value.append(Order.objects.latest("pk").packed_at is not None)
""",
    )
    assert isinstance(value, list)
    assert value[2:] == [3, True]
    assert await its_store.known(value[:2]) == [False, False]


async def test_a_task_runs_as_a_request_does(running: DjangoProject) -> None:
    value = await script(
        running, "value = [ended(surroundings.enqueue()).return_value, ended(surroundings.enqueue()).return_value]"
    )
    assert value == [{"language": "en", "zone": "Europe/Berlin"}] * 2


async def test_bad_calls_say_what_is_wrong(running: DjangoProject) -> None:
    value = await script(
        running,
        """
from shop.tasks_interface import task

def said(work):
    try:
        return repr(work())
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

value = [
    said(lambda: count_orders.enqueue(object())),
    said(lambda: count_orders.using(queue_name="elsewhere")),
    said(lambda: count_orders.get_result("no-such-id")),
    said(lambda: count_orders.get_result(pack.options(queue="nobody").submit(order=1).id)),
    said(lambda: task(lambda: None)),
]
""",
    )
    assert isinstance(value, list)
    assert value[0].startswith("TypeError: Unsupported type")
    assert "Queue 'elsewhere' is not valid for backend." in value[1]
    assert value[2] == "TaskResultDoesNotExist: no-such-id"
    assert value[3].endswith(": the project has no task pack")
    assert "must be defined at a module level" in value[4]


async def test_checks_find_wrong_options(project: DjangoProject) -> None:
    value = await script(
        project,
        """
from django.core.checks import run_checks
from django.test import override_settings
from celeriac.contrib.django.interface import task_backends

backend = "celeriac.contrib.django.CeleriacBackend"
value = []
for options in ({}, {"enqueue": "later"}, {"enqeue": "now"}, {"database": "archive"}):
    with override_settings(TASKS={"default": {"BACKEND": backend, "OPTIONS": options}}):
        value.append([f.id for f in task_backends["default"].check()])
value.append([f.id for f in run_checks(tags=["celeriac"], include_deployment_checks=True)])
""",
    )
    assert value == [[], ["celeriac.E002"], ["celeriac.E001"], ["celeriac.E003"], ["celeriac.W003"]]


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("CELERIAC_REDIS_URLL", "x", "there is no setting redis_urll"),
        ("CELERIAC_ACCESS__CORS_ORIGINS", "http://shop/cart", "cors_origins: 'http://shop/cart' is not an origin"),
    ],
)
async def test_checks_find_wrong_settings(project: DjangoProject, variable: str, text: str, said: str) -> None:
    body = """
from django.core.checks import run_checks
value = [[f.id, f.msg] for f in run_checks(tags=["celeriac"])]
"""
    found = await asyncio.to_thread(project.script, body, **{variable: text})
    assert isinstance(found, list)
    assert [one[0] for one in found] == ["celeriac.E005"]
    assert said in found[0][1]


async def test_killed_workers_neither_lose_nor_double_what_was_enqueued(
    project: DjangoProject, store: TaskStore
) -> None:
    writer = project.beside(
        f"""{BEGIN}
for number in range(150):
    try:
        with transaction.atomic():
            Order.objects.create(customer=str(number))
            count_orders.enqueue()
            if number % 5 == 0:
                raise RuntimeError
    except RuntimeError:
        pass
    time.sleep(0.02)
"""
    )
    try:
        while writer.poll() is None:
            worker = await project.worker(store)
            await asyncio.sleep(0.5)
            worker.kill()
        assert writer.returncode == 0
    finally:
        writer.kill()
    await project.worker(store)
    wanted = """
from celeriac.contrib.django.models import OutboxTask
value = [OutboxTask.objects.count(), Order.objects.count()]
"""

    async def all_gone() -> bool:
        return await script(project, wanted) == [0, 120]

    await eventually(all_gone, because="the outbox is empty", interval_s=1)

    async def all_ended() -> bool:
        counters = (await read_counts(store)).counters
        return sum(counters.get("finished", {}).values()) == 120

    await eventually(all_ended, because="all have ended")
    counters = (await read_counts(store)).counters
    assert sum(counters["submitted"].values()) == 120


def test_no_migration_is_missing(project: DjangoProject) -> None:
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run").stdout


def test_the_projects_own_tests_pass(project: DjangoProject) -> None:
    assert "OK" in project.manage("test", str(PROJECT)).stderr


async def test_a_relay_whose_connections_break_goes_on(running: DjangoProject, kind: str) -> None:
    if kind != "postgresql":
        pytest.skip("SQLite has no connections that break")
    value = await script(
        running,
        """
from django.db import connection
value = []
for _ in range(3):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    value.append(ended(count_orders.enqueue()).status)
""",
    )
    assert value == ["SUCCESSFUL"] * 3
    # It is said once each time, and is not a failure of the relay.
    logs = [path.read_text(errors="replace") for path in running.folder.glob("worker-*.log")]
    assert any("its tasks wait there" in one for one in logs)
    assert not any("OutboxRelay: a step failed" in one for one in logs)
