"""What Django promises of any backend for tasks, whatever `enqueue` says: results, errors, signals, refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.django.test_backend import BEGIN
from tests.kit.django.project import DjangoProject
from tests.kit.waiting import eventually

#: All backends of the example project.
BACKENDS = ("default", "on_commit", "at_once")

TASKS = """
from dataclasses import asdict
from tests.kit.django.behaviour import tasks
from celeriac.contrib.django.interface import task_backends
from celeriac.calling.blocking import block_on
from celeriac.connection.process import process_connection

def said(work):
    try:
        return repr(work())
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

def running(result):
    # One that is cancelled before it begins tells nobody of its end.
    while f"{result.id} started" not in open(tasks.HEARD).read():
        time.sleep(0.05)
"""


async def script(project: DjangoProject, body: str) -> object:
    return await asyncio.to_thread(project.script, BEGIN + TASKS + body)


def heard(project: DjangoProject, task_id: object) -> list[str]:
    """Return what receivers have written down of a task, without its id."""
    lines = Path(project.environment["HEARD"]).read_text().splitlines()
    found = [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == task_id]
    # The worker may be faster than the program that has enqueued the task.
    return sorted(found, key=lambda line: not line.startswith("enqueued"))


async def test_every_end_of_a_task_is_told_by_its_result_and_by_signals(running: DjangoProject) -> None:
    value = await script(
        running,
        """
value = []
for name in ("leave", "interrupt", "several", "unreadable", "skip", "never", "endless", "later"):
    result = ended(getattr(tasks, name).using(backend="at_once").enqueue())
    ends = {one.traceback[-1:] for one in result.errors}
    value.append([result.id, name, result.status, result.attempts, [e.exception_class_path for e in result.errors]])
    assert ends <= {"\\n"}, result.errors
    assert all(issubclass(one.exception_class, BaseException) for one in result.errors)
for task in (tasks.patient, tasks.patient_async):
    result = task.using(backend="at_once").enqueue()
    running(result)
    block_on(process_connection.cancel(result.id))
    ended(result)
    paths = [e.exception_class_path for e in result.errors]
    value.append([result.id, task.name, result.status, result.attempts, paths])
""",
    )
    assert isinstance(value, list)
    ids = [one[0] for one in value]
    lookup = "builtins.LookupError"
    cancelled = "celeriac.errors.TaskCancelledError"
    assert [one[1:] for one in value] == [
        ["leave", "FAILED", 1, ["builtins.SystemExit"]],
        ["interrupt", "FAILED", 1, ["builtins.KeyboardInterrupt"]],
        ["several", "FAILED", 1, ["builtins.ExceptionGroup"]],
        ["unreadable", "FAILED", 1, ["builtins.TypeError"]],
        ["skip", "FAILED", 1, ["celeriac.errors.TaskError"]],
        ["never", "FAILED", 3, [lookup] * 3],
        ["endless", "FAILED", 1, ["celeriac.errors.TaskTimeoutError"]],
        ["later", "SUCCESSFUL", 1, []],
        ["patient", "FAILED", 1, [cancelled]],
        ["patient_async", "FAILED", 1, [cancelled]],
    ]

    enqueued, started = "enqueued CeleriacBackend READY 0", "started CeleriacBackend RUNNING"
    finished = "finished CeleriacBackend"
    # The worker tells receivers, and others may see the end of a cancelled task before.
    await eventually(lambda: all(heard(running, one)[-1].startswith(finished) for one in ids), because="all are told")
    assert [heard(running, one) for one in ids] == [
        [enqueued, f"{started} 1", f"{finished} FAILED 1 builtins.SystemExit"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 builtins.KeyboardInterrupt"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 builtins.ExceptionGroup"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 builtins.TypeError"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 celeriac.errors.SkipRetry"],
        [enqueued, *(f"{started} {attempt}" for attempt in (1, 2, 3)), f"{finished} FAILED 3 {lookup}"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 celeriac.errors.TaskTimeoutError"],
        [enqueued, f"{started} 1", f"{started} 1", f"{finished} SUCCESSFUL 1"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 {cancelled}"],
        [enqueued, f"{started} 1", f"{finished} FAILED 1 {cancelled}"],
    ]


async def test_a_result_is_the_same_for_each_reader(running: DjangoProject) -> None:
    value = await script(
        running,
        """
value = []
for backend in ("default", "on_commit", "at_once"):
    later = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    made = tasks.echo.using(backend=backend, priority=-55, queue_name="mail", run_after=later)
    with transaction.atomic():
        result = made.enqueue(1, [2], three={"four": None})
    first = asdict(result)
    waiting = task_backends[backend].get_result(result.id)
    for _ in range(300):
        # From the row, from the moment between, and from the record.
        result.refresh()
        assert asdict(result) == first == asdict(waiting), (result, waiting)
        waiting = made.get_result(result.id)
        time.sleep(0.005)
    value.append([backend, result.args, result.kwargs, result.task == waiting.task == made])
""",
    )
    assert value == [[backend, [1, [2]], {"three": {"four": None}}, True] for backend in BACKENDS]


async def test_a_task_knows_itself(running: DjangoProject) -> None:
    value = await script(
        running,
        """
value = []
for backend in ("default", "on_commit", "at_once"):
    result = ended(tasks.tell.using(backend=backend, queue_name="default").enqueue())
    told = result.return_value
    value.append([
        told["id"] == result.id, told["attempt"], told["status"], told["queue"], told["priority"],
        told["enqueued"] == result.enqueued_at.isoformat(),
    ])
""",
    )
    assert value == [[True, 1, "RUNNING", "default", -7, True]] * 3


async def test_receivers_hear_of_a_task_only_if_it_is_committed(running: DjangoProject) -> None:
    value = await script(
        running,
        """
value = []
for backend in ("default", "on_commit"):
    with transaction.atomic():
        kept = tasks.echo.using(backend=backend).enqueue()
        early = said(lambda: tasks.echo.using(backend=backend).get_result(kept.id))
        try:
            with transaction.atomic():
                lost = tasks.echo.using(backend=backend).enqueue()
                raise RuntimeError
        except RuntimeError:
            pass
    ended(kept)
    value.append([kept.id, lost.id, early.partition(":")[0].partition("(")[0]])
""",
    )
    assert isinstance(value, list)
    (row, lost_row, early_row), (kept, lost, early) = value
    # In the transaction its row is there; with on_commit nothing is.
    assert (early_row, early) == ("TaskResult", "TaskResultDoesNotExist")
    # The worker tells receivers, and others may see the end before.
    await eventually(lambda: [len(heard(running, one)) for one in (row, kept)] == [3, 3], because="all are told")
    assert heard(running, lost) == []
    # A row is told of when it is written, as by other backends that write rows.
    assert len(heard(running, lost_row)) == 1


async def test_what_django_refuses_is_refused(running: DjangoProject) -> None:
    value = await script(
        running,
        """
from datetime import datetime
from django.test import override_settings
import pickle

echo = tasks.echo
value = [
    said(lambda: echo.using(priority=101)),
    said(lambda: echo.using(priority=-101)),
    said(lambda: echo.using(priority=1.5)),
    said(lambda: echo.using(run_after=datetime.now())),
    said(lambda: echo.using(queue_name="elsewhere")),
    said(lambda: echo.using(backend="none")),
    said(lambda: echo.get_result(tasks.leave.using(backend="at_once").enqueue().id)),
    said(lambda: tasks.task(tasks.echo.func, takes_context=True)),
    said(lambda: tasks.task(lambda: None)),
    said(lambda: tasks.task(max)),
]
for argument in (object(), datetime.now(), {1, 2}, b"\\xff"):
    value.append(said(lambda: echo.enqueue(argument)).partition(":")[0])
assert asyncio.run(echo.using(backend="at_once").aenqueue()).status == "READY"
value.append([
    [flag, getattr(echo.get_backend(), f"supports_{flag}")]
    for flag in ("defer", "async_task", "get_result", "priority")
])
# QUEUES may change while tasks wait.
result = ended(echo.using(queue_name="mail").enqueue())
only = {"BACKEND": "celeriac.contrib.django.CeleriacBackend", "QUEUES": ["default"], "OPTIONS": {"enqueue": "outbox"}}
with override_settings(TASKS={"default": only}):
    value.append(echo.get_result(result.id).task.queue_name)
    value.append(said(lambda: result.task.enqueue()))
""",
    )
    assert isinstance(value, list)
    # django-tasks 0.12 has `Error` at the end of all names.
    assert [one.partition(":")[0].removesuffix("Error") for one in value[:14]] == [
        *["InvalidTask"] * 5,
        "InvalidTaskBackend",
        "TaskResultMismatch",
        *["InvalidTask"] * 3,
        *["Type"] * 3,
        "Value",
    ]
    assert value[14] == [["defer", True], ["async_task", True], ["get_result", True], ["priority", True]]
    assert value[15] == "mail"
    assert "Queue 'mail' is not valid for backend" in value[16]


async def test_on_commit_needs_ids_which_an_api_does_not_take(running: DjangoProject) -> None:
    body = """
from django.core.checks import run_checks
try:
    with transaction.atomic():
        Order.objects.create(customer="nobody")
        count_orders.using(backend="on_commit").enqueue()
    refused = ""
except ValueError as exc:
    refused = str(exc)
found = [one.id for one in run_checks() if "on_commit" in one.msg]
value = [refused, Order.objects.filter(customer="nobody").count(), found]
"""
    # Nobody listens there, and nobody is asked.
    value = await asyncio.to_thread(running.script, BEGIN + body, CELERIAC_URL="http://127.0.0.1:9")
    assert isinstance(value, list)
    refused, orders, found = value
    assert "set OPTIONS['enqueue'] to 'outbox', or to 'now', or set REDIS_URL instead of CELERIAC_URL" in refused
    assert (orders, found) == (0, ["celeriac.W004"])
