"""The scripts of the store, read from `lua/`, and what each call of one begins with.

Those of `lua/transitions/` change tasks and groups; each has the texts of `lua/shared/` in front that it uses. Those of
`lua/reads/` change nothing, and those of `lua/plumbing/` move messages, roles and positions; both stand alone,
apart from `WITH_PARTS`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from celeriac.settings import StoreSettings

#: The files of `lua/shared/` in the order in which they build on each other.
SHARED: Final = (
    *("keys", "time", "groups", "batch", "counts", "record", "workflows", "events"),
    *("messages", "waiting", "rules", "limits", "suspension", "queueing", "dependencies", "calls", "once", "ends"),
    *("resuming", "attempts", "cancelling", "repeating", "nodes", "conflicts", "submitting", "plans"),
)
#: The reads that need what transitions know. They take the same arguments.
WITH_PARTS: Final = frozenset({"why"})
_FOLDERS: Final = ("transitions", "reads", "plumbing")
_COMMENT: Final = re.compile(r"--.*")
_WORD: Final = re.compile(r"\w+")
#: `local function name`, `function name` of a name that an earlier part declares, `local name, name`.
_DEFINITION: Final = re.compile(r"^(?:local )?function (\w+)|^local ([\w, ]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script; `sha` is what EVALSHA takes."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script `lua/*/NAME.lua`; a transition has those shared parts in front that it uses."""
    folder = next(folder for folder in _FOLDERS if name in _names_in(folder))
    source = _text(folder, name)
    if folder == "transitions" or name in WITH_PARTS:
        source = "\n".join([*map(shared_part, parts_of(source)), source])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@cache
def every_transition() -> tuple[Script, ...]:
    """Return all transitions."""
    return tuple(script(name) for name in sorted(_names_in("transitions")))


def parts_of(source: str) -> list[str]:
    """Return the shared parts whose names a script uses, or the parts after them, in the order of `SHARED`.

    The server makes all functions of a script anew for each call: with all parts a short one takes twice its time.
    """
    parts: list[str] = []
    words = _words(source)
    for part in reversed(SHARED):
        if part == SHARED[0] or not _names_of(part).isdisjoint(words):
            parts.insert(0, part)
            words |= _words(shared_part(part))
    return parts


@cache
def _words(source: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_COMMENT.sub("", source)))


@cache
def _names_of(part: str) -> frozenset[str]:
    """Return the names that a shared part gives to what comes after it."""
    found = _DEFINITION.findall(shared_part(part))
    return frozenset(name.strip() for function, names in found for name in (function or names).split(","))


@cache
def shared_part(part: str) -> str:
    """Return the text `lua/shared/PART.lua`."""
    return _text("shared", part)


@cache
def _names_in(folder: str) -> frozenset[str]:
    found = (files("celeriac.store") / "lua" / folder).iterdir()
    return frozenset(file.name.removesuffix(".lua") for file in found if file.name.endswith(".lua"))


def _text(folder: str, name: str) -> str:
    return (files("celeriac.store") / "lua" / folder / f"{name}.lua").read_text("utf-8")


def limit_arguments(settings: StoreSettings) -> list[Any]:
    """Return the arguments that every transition begins with (see `lua/shared/keys.lua`)."""
    feeds = settings.notifications
    limits = (
        settings.max_task_events,
        feeds.max_messages,
        round(feeds.keep * 1000),
        feeds.max_ended,
        settings.max_log_lines,
        round(settings.tell_within * 1000),
        settings.workflows.max_events,
    )
    return [",".join(map(str, limits)), settings.max_global_events, round(settings.retention * 1000)]


def batch_arguments(settings: StoreSettings) -> dict[str, list[Any]]:
    """Return what stands before the items in the arguments of each batching script, the limits apart."""
    lease_ms = round(settings.lease * 1000)
    feeds = settings.notifications
    return {
        "submit": [
            round(settings.idempotency_ttl * 1000),
            settings.max_scheduled,
            settings.queues.max_groups,
            settings.queues.max_user_groups,
            settings.workflows.max_nodes,
        ],
        "claim": [lease_ms],
        "notify": [
            lease_ms,
            round(feeds.silence * 1000),
            round(feeds.start_within * 1000),
            settings.queues.limit_of(feeds.group),
        ],
        "claim_remote": [lease_ms],
        "delta": [settings.max_delta_bytes],
        "note_step": [lease_ms, settings.steps.most, settings.steps.max_task_bytes],
        "remote_presence": [round(settings.presence * 1000), lease_ms],
    }
