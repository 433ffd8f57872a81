"""Celery's command line beside a running worker, in one process: a command is called as `celery` calls it."""

from __future__ import annotations

import json
import re
from socket import gethostname
from typing import Any

from celery.bin.celery import celery
from click.testing import CliRunner

from tests.kit.conformance.probing import WAIT, fresh, probe
from tests.kit.conformance.project import SIDE, app
from tests.kit.conformance.project import tasks as t

APP = "tests.kit.conformance.project"
#: Who is named is waited for no longer than until it has answered.
WORKER = f"{SIDE}@{gethostname()}"


def said(*arguments: str) -> Any:
    """Return the exit code and the last lines that a command prints."""
    done = CliRunner().invoke(celery, ["-A", APP, "--no-color", *arguments])
    return [done.exit_code, done.output]


def fields(text: str) -> Any:
    """Return what a command printed as JSON, without the name of the worker."""
    found = json.loads(text)
    return next(iter((found[0] if isinstance(found, list) else found).values()))


@probe
def celery_call_and_celery_result() -> Any:
    code, printed = said("call", "add", "-a", "[2, 3]")
    task_id = printed.strip()
    value = app.AsyncResult(task_id).get(timeout=WAIT)
    return [code, len(task_id), value, said("result", task_id)]


@probe
def celery_call_with_options() -> Any:
    code, printed = said("call", "pair", "-k", '{"a": 1}', "--countdown", "0.2", "--queue", "side", "--expires", "60")
    return [code, app.AsyncResult(printed.strip()).get(timeout=WAIT)]


@probe
def celery_result_of_a_failure() -> Any:
    result = t.failing.delay()
    result.get(timeout=WAIT, propagate=False)
    code, printed = said("result", result.id, "--traceback")
    return [code, printed.strip().splitlines()[-1]]


@probe
def celery_purge_of_one_queue() -> Any:
    queue = f"purged-{fresh()}"
    results = [t.add.apply_async((1, n), queue=queue) for n in range(3)]
    purged = said("purge", "-f", "-Q", queue)
    again = said("purge", "-f", "-Q", queue)
    return [purged, again, len(results)]


@probe
def celery_inspect_ping() -> Any:
    code, printed = said("inspect", "ping", "-j", "-t", "20", "-d", WORKER)
    return [code, fields(printed)]


@probe
def celery_inspect_registered() -> Any:
    code, printed = said("inspect", "registered", "-j", "-t", "20", "-d", WORKER)
    return [code, "add" in fields(printed)]


@probe
def celery_status() -> Any:
    code, printed = said("status", "-t", "20", "-d", WORKER)
    return [code, re.sub(r"\S+@\S+", "<worker>", printed).strip().splitlines()[-1]]


@probe
def celery_control_with_an_argument() -> Any:
    code, printed = said("control", "-j", "-t", "20", "-d", WORKER, "rate_limit", "limited", "150/m")
    return [code, fields(printed)]


@probe
def celery_report_names_transport_and_results() -> Any:
    code, printed = said("report")
    words = re.findall(r"(?:transport|results|settings -> transport):(\S+)", printed)
    return [code, [re.sub(r":\d+", ":<port>", word) for word in words]]


@probe
def celery_list_bindings() -> Any:
    code, printed = said("list", "bindings")
    rows = [line.split()[:3] for line in printed.splitlines() if "media" in line]
    return [code, rows[:1]]


@probe
def celery_amqp_purges_and_declares() -> Any:
    code, printed = said("amqp", "queue.purge", "nothing-here")
    return [code, printed.strip().splitlines()[-1:]]


@probe
def celery_without_a_task_of_that_name() -> Any:
    code, printed = said("call", "nobody.knows")
    return [code, len(printed.strip())]


@probe
def celery_graph_and_shell_exist() -> Any:
    return [
        said(command, "--help")[0] for command in ("graph", "shell", "multi", "migrate", "logtool", "upgrade", "events")
    ]
