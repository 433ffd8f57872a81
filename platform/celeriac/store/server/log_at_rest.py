"""Keeps the server from rewriting its append-only file while the file is being copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from celeriac.errors import StoreUnavailableError
from celeriac.store.server.facts import read_fields
from celeriac.store.task_store import TaskStore

_SETTING: Final = "auto-aof-rewrite-percentage"
#: Its default. A copy that was killed leaves the setting at 0; then the default is restored.
_USUAL: Final = "100"
#: How long a rewrite may take before the copy gives up, and the pause between two looks (seconds).
_REWRITE_S: Final = 600.0
_LOOK_S: Final = 0.1


@asynccontextmanager
async def log_at_rest(store: TaskStore) -> AsyncIterator[None]:
    """Inside the block, the server only appends to the files of its log; a rewrite would replace them during a copy.

    Raises `StoreUnavailableError`, also if a rewrite that has begun does not end.
    """
    (reply,) = await store.read(("CONFIG", "GET", _SETTING))
    before = _value(reply)
    await store.read(("CONFIG", "SET", _SETTING, "0"))
    try:
        await _await_rewrite(store)
        yield
    finally:
        await store.read(("CONFIG", "SET", _SETTING, _USUAL if before == "0" else before))


async def _await_rewrite(store: TaskStore) -> None:
    try:
        async with asyncio.timeout(_REWRITE_S):
            while (await read_fields(store, "persistence")).get("aof_rewrite_in_progress") == "1":
                await asyncio.sleep(_LOOK_S)
    except TimeoutError as exc:
        raise StoreUnavailableError(
            f"the store has been rewriting its append-only file for {_REWRITE_S:.0f} s; try the backup again later"
        ) from exc


def _value(reply: Any) -> str:
    # Whether the driver makes a mapping of the reply depends on how the command was sent.
    return str(reply[_SETTING] if isinstance(reply, dict) else reply[1])
