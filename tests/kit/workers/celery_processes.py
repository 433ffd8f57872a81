"""Programs around plain Celery: producers, `celery` command lines, and what they print."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from tests.kit.command_line import REPOSITORY
from tests.kit.waiting import PATIENCE_S
from tests.kit.workers.celery_operators import operator_of
from tests.kit.workers.engine_workers import TYPES, Workers

PLAIN = "tests.kit.workers.celery_plain"
#: Settings of a process that knows both kinds of tasks.
BOTH: dict[str, Any] = {"imports": [TYPES, PLAIN]}


def celery_command(*arguments: str) -> list[str]:
    """Return a command line of Celery's own."""
    return [sys.executable, "-m", "celery", "-A", "celeriac_tasks", *arguments]


async def operated(workers: Workers, worker_id: str, *words: str) -> str:
    """Return what `celery inspect` or `celery control` prints when the worker has answered.

    By itself, it takes what is answered within a second, and fails if nothing is.
    """
    async with operator_of(workers.redis_url) as operator:
        await operator.ask("ping")
    kind, *rest = words
    command = celery_command(kind, "--timeout=30", f"--destination={worker_id}", *rest)
    return await output_of(command, workers.environment(**BOTH))


async def output_of(command: list[str], environment: dict[str, str]) -> str:
    """Run a program to its end and return what it printed; fail when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, f"{command}: {out.decode()}\n{err.decode()}"
    return out.decode()


async def publish(workers: Workers, *expressions: str, **settings: Any) -> list[str]:
    """Evaluate expressions that publish plain tasks, in a process of its own; returns the ids of their results."""
    program = "\n".join(
        [f"from {PLAIN} import *", *(f"print(({expression}).id)" for expression in expressions)],
    )
    environment = workers.environment(**{**BOTH, **settings})
    return (await output_of([sys.executable, "-c", program], environment)).split()


async def publish_chain(workers: Workers, expression: str, **settings: Any) -> list[str]:
    """Publish a canvas and return the ids along its chain, first to last."""
    program = f"""
from {PLAIN} import *
last = ({expression}).apply_async()
ids = []
while last is not None:
    ids.insert(0, last.id)
    last = last.parent
print(*ids)
"""
    environment = workers.environment(**{**BOTH, **settings})
    return (await output_of([sys.executable, "-c", program], environment)).split()


async def evaluate(
    workers: Workers,
    *expressions: str,
    module: str = PLAIN,
    variables: Mapping[str, str] | None = None,
    **settings: Any,
) -> list[Any]:
    """Evaluate expressions where plain tasks are known, in a process of its own; an exception is `["NAME", "text"]`.

    `module`: the one whose names they use. `variables`: more of the process's environment.
    """
    program = f"""
import json, sys
from celery import chain, chord, group
from celery.result import AsyncResult
from {module} import *
for expression in sys.argv[1:]:
    try:
        found = eval(expression)
    except Exception as exc:
        found = [type(exc).__name__, str(exc)]
    print(json.dumps(found))
"""
    environment = {**workers.environment(**{**BOTH, **settings}), **(variables or {})}
    lines = (await output_of([sys.executable, "-c", program, *expressions], environment)).splitlines()
    return [json.loads(line) for line in lines]


async def publish_as_stranger(workers: Workers, *messages: dict[str, Any], broker: str, queue: str) -> list[str]:
    """Publish with a stock Celery app; each message is the options of `send_task`, with `name`."""
    environment = {**workers.environment(), "STOCK_BROKER": broker, "STOCK_QUEUE": queue}
    command = [sys.executable, "-m", "tests.kit.workers.celery_stock", *(json.dumps(message) for message in messages)]
    return (await output_of(command, environment)).split()
