"""What a shell completes beyond the names of commands and options: task types, groups, limits, recent ids, profiles.

A shell asks with each press of a key. So nothing is asked for long, nothing is printed but what completes, and what
goes wrong completes nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any, Final

import typer

from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform

#: How long a platform may take to answer (seconds).
_PATIENCE_S: Final = 2.0
#: At most this many ids are offered.
_MOST: Final = 50


def task_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of recent tasks, the newest first."""
    return _answer(ctx, incomplete, lambda platform: platform.tasks.recent_ids(incomplete, _MOST))


def definition_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of definitions, the newest first."""

    async def ids(platform: AnyPlatform) -> list[str]:
        found = await platform.definitions.listed(
            _MOST, user_id=None, status=None, group=None, id_prefix=incomplete or None
        )
        return [str(one["task_def_id"]) for one in found]

    return _answer(ctx, incomplete, ids)


def workflow_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of workflows, the newest first."""

    async def ids(platform: AnyPlatform) -> list[str]:
        async with aclosing(platform.workflows.listed(_MOST, status=None, name=None)) as found:
            return [str(one["workflow_id"]) async for one in found]

    return _answer(ctx, incomplete, ids)


def key_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of API keys."""

    async def ids(platform: AnyPlatform) -> list[str]:
        return [str(key["id"]) for key in await platform.operators.keys()]

    return _answer(ctx, incomplete, ids)


def task_types(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the task types."""
    return _answer(ctx, incomplete, lambda platform: platform.operators.type_names())


def groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the groups."""

    async def names(platform: AnyPlatform) -> list[str]:
        found, _ = await platform.groups.listed()
        return [str(group["name"]) for group in found]

    return _answer(ctx, incomplete, names)


def worker_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the workers that run."""

    async def ids(platform: AnyPlatform) -> list[str]:
        return [str(worker["worker_id"]) for worker in await platform.operators.workers()]

    return _answer(ctx, incomplete, ids)


def limits(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the limits."""

    async def names(platform: AnyPlatform) -> list[str]:
        return [str(limit["name"]) for limit in await platform.limits.listed()]

    return _answer(ctx, incomplete, names)


def profiles(incomplete: str) -> list[str]:
    """Return the names of the profiles."""
    from celeriac.cli.reach.profiles import read_profiles

    try:
        return [name for name in read_profiles().by_name if name.startswith(incomplete)]
    except Exception:
        return []


def _answer(ctx: typer.Context, incomplete: str, ask: Callable[[AnyPlatform], Awaitable[Iterable[str]]]) -> list[str]:
    """Return the answer of the platform that the words before lead to, none if it does not come in time."""
    found: list[str] = []

    def work() -> None:
        async def in_time(platform: AnyPlatform) -> Iterable[str]:
            return await asyncio.wait_for(ask(platform), _PATIENCE_S)

        with suppress(BaseException):  # whatever goes wrong: a prompt is not the place to say so
            found.extend(_there(ctx.params).run(in_time))

    # In a thread that may be left behind: a look-up of a name cannot be broken off.
    with redirect_stderr(StringIO()):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(_PATIENCE_S)
    return [one for one in list(found) if one.startswith(incomplete)]


def _there(given: dict[str, Any]) -> Destination:
    data_dir, config = (Path(given[name]) if given.get(name) else None for name in ("data_dir", "config"))
    return Destination(given.get("url"), given.get("token"), given.get("profile"), data_dir, config)
