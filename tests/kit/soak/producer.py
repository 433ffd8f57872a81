"""A program that calls `.delay()` and reports tasks of its own, and writes down each id after it was accepted."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from celeriac import task_notification_service as reports
from celeriac.errors import StoreUnavailableError
from tests.kit.soak.types import add

_PAUSE_S = 0.8


def _note(task_id: str, kind: str) -> None:
    with open(os.environ["SOAK_PRODUCED"], "a") as out:
        out.write(json.dumps({"task_id": task_id, "kind": kind, "at": time.time()}) + "\n")


def _delay(chance: random.Random) -> None:
    options: dict[str, Any] = {"queue": chance.choice(["default", "g1", "g2"]), "priority": chance.randint(0, 9)}
    if chance.random() < 0.3:
        options["countdown"] = chance.uniform(0.5, 10)
    failures = chance.choice([0, 0, 0, 1, 2])
    _note(add.apply_async((1, 2), {"failures": failures}, **options).id, "celery")


async def _report() -> None:
    task_id = f"report_{secrets.token_hex(8)}"
    reports.register_task(task_id=task_id, user_id=9, task_type="report")
    # Registering waits for a slow store only for a moment; what was started is known.
    await _at_least_once(lambda: reports.notify_started(task_id))
    _note(task_id, "report")
    for step in range(1, 4):
        await _at_least_once(lambda step=step: reports.notify_progress(task_id, progress=step * 30, message=str(step)))
    await _at_least_once(lambda: reports.notify_completed(task_id, result={"ok": True}))


async def _at_least_once(call: Callable[[], Awaitable[Any]]) -> None:
    """Repeat a call until the store has taken it."""
    while True:
        try:
            await call()
            return
        except StoreUnavailableError as exc:
            print(f"a report is repeated: {exc!r}", flush=True)
            await asyncio.sleep(1)


def main() -> NoReturn:
    """Produce until a signal comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    chance = random.Random()
    while True:
        try:
            _delay(chance) if chance.random() < 0.8 else asyncio.run(_report())
        except Exception as exc:
            print(f"not accepted: {exc!r}", flush=True)
        time.sleep(chance.expovariate(1 / _PAUSE_S))


if __name__ == "__main__":
    main()
