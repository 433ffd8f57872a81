"""The Lua transitions, read from `lua/`, each with the shared part in front, and what each call of one begins with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from celeriac.settings import Settings


@dataclass(frozen=True, slots=True)
class Script:
    """One transition; `sha` is what EVALSHA takes."""

    name: str
    source: str
    sha: str


#: Files of `lua/` that are no transitions.
_OTHERS = {
    "shared.lua",
    "pop.lua",
    "feed_position.lua",
    "feed_note.lua",
    "feed_retire.lua",
    "sizes.lua",
    "open_feed.lua",
    "states.lua",
    "hold.lua",
    "previews.lua",
}


@cache
def every_transition() -> tuple[Script, ...]:
    """Return all transitions of `lua/`."""
    names = sorted(file.name for file in (files("celeriac.store") / "lua").iterdir() if file.name.endswith(".lua"))
    return tuple(script(name.removesuffix(".lua")) for name in names if name not in _OTHERS)


@cache
def script(name: str, *, transition: bool = True) -> Script:
    """Return the script `lua/NAME.lua`; a transition has the shared part in front."""
    folder = files("celeriac.store") / "lua"
    source = (folder / f"{name}.lua").read_text("utf-8")
    if transition:
        source = (folder / "shared.lua").read_text("utf-8") + "\n" + source
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def limit_arguments(settings: Settings) -> list[Any]:
    """Return the arguments that every script begins with (see `lua/shared.lua`)."""
    feeds = settings.notifications
    limits = (
        settings.max_task_events,
        feeds.max_messages,
        round(feeds.keep * 1000),
        feeds.max_ended,
        settings.task_log.lines,
    )
    return [",".join(map(str, limits)), settings.max_global_events, round(settings.retention * 1000)]


def batch_arguments(settings: Settings) -> dict[str, list[Any]]:
    """Return what stands before the items in the arguments of each batching script, the limits apart."""
    lease_ms = round(settings.lease * 1000)
    feeds = settings.notifications
    return {
        "submit": [round(settings.idempotency_ttl * 1000), settings.max_scheduled],
        "claim": [lease_ms],
        "notify": [
            lease_ms,
            round(feeds.silence * 1000),
            round(feeds.start_within * 1000),
            settings.queue_limit(feeds.group),
        ],
        "claim_remote": [lease_ms],
        "delta": [settings.dispatch.max_delta_bytes],
        "remote_presence": [round(settings.dispatch.presence * 1000), lease_ms],
    }
