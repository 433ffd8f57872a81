"""Handlers that do what a task's data says, for workers in processes of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from celeriac import RateLimited, RemoteTask, SkipRetry

#: The tasks that were told to come back later.
_TOLD: set[str] = set()


def _refuse_once(task_id: str, retry_after: float | str) -> None:
    if task_id not in _TOLD:
        _TOLD.add(task_id)
        raise RateLimited("too many", retry_after=retry_after)


def _say(task: RemoteTask) -> None:
    """Log a line, and as many more as the task's data says."""
    task.log.info("begun with %s", "care", extra={"password": "pw", "odd": {1}})
    for n in range(task.data.get("lines", 0) if isinstance(task.data, dict) else 0):
        task.log.warning("a line", extra={"n": n, "long": "x" * 1000})


async def handle(task: RemoteTask) -> Any:
    """Do as told, in the event loop."""
    await task.progress(10, "begun", stage="first")
    _say(task)
    match task.data:
        case {"fail": text}:
            raise ValueError(text)
        case {"skip": text}:
            raise SkipRetry(text, code="no_use")
        case {"later": retry_after}:
            _refuse_once(task.id, retry_after)
        case {"sleep_s": seconds}:
            await asyncio.sleep(seconds)
        case {"nonsense": _}:
            return object()
        case {"parts": parts}:
            for part in parts:
                await task.delta(part)
    return {"echo": task.data, "model": task.model, "attempt": task.attempt}


def handle_in_thread(task: RemoteTask) -> Any:
    """Do as told, in a thread."""
    task.progress(10, "begun", stage="first")
    _say(task)
    match task.data:
        case {"fail": text}:
            raise ValueError(text)
        case {"skip": text}:
            raise SkipRetry(text, code="no_use")
        case {"later": retry_after}:
            _refuse_once(task.id, retry_after)
        case {"sleep_s": seconds}:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                task.raise_if_cancelled()
                time.sleep(0.01)
        case {"nonsense": _}:
            return object()
        case {"parts": parts}:
            for part in parts:
                task.delta(part)
    return {"echo": task.data, "model": task.model, "attempt": task.attempt}
