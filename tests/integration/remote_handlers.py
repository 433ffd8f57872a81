"""Handlers that do what a task's data says, for workers in processes of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from celeriac import RemoteTask, SkipRetry


async def handle(task: RemoteTask) -> Any:
    """Do as told, in the event loop."""
    await task.progress(10, "begun", stage="first")
    match task.data:
        case {"fail": text}:
            raise ValueError(text)
        case {"skip": text}:
            raise SkipRetry(text, code="no_use")
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
    match task.data:
        case {"fail": text}:
            raise ValueError(text)
        case {"skip": text}:
            raise SkipRetry(text, code="no_use")
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
