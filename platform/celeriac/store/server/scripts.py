"""The scripts of the store, read from `lua/`, and what each call of one begins with.

Those of `lua/transitions/` change tasks and groups; they use the texts of `lua/shared/`. Those of `lua/reads/` change
nothing, and those of `lua/plumbing/` move messages, roles and positions; both stand alone, apart from `WITH_PARTS`.

A server that has functions (Redis 7, Valkey) gets all that use shared parts as one library, which it makes once. Any
other one gets each of them as a script, with the shared parts in front (see `caller.py`).
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
    *("call", "keys", "time", "groups", "batch", "counts", "life", "record", "workflows", "events"),
    *("messages", "waiting", "rules", "limits", "suspension", "queueing", "dependencies", "calls", "once", "ends"),
    *("resuming", "attempts", "cancelling", "repeating", "nodes", "conflicts", "submitting", "plans"),
)
#: What every script has in front: how a call begins, and what it begins with.
_ALWAYS: Final = frozenset({"call", "keys"})
#: The reads that need what transitions know. They take the same arguments.
WITH_PARTS: Final = frozenset({"why"})
#: How the names of our libraries begin.
LIBRARY_PREFIX: Final = "celeriac_"
#: What makes room, or lets work end: functions that a server runs with a full memory, too.
_WHEN_FULL: Final = frozenset(
    {
        *("cancel", "cancel_workflow", "complete", "complete_remote", "fail", "fold_counts", "lose", "reap"),
        *("release", "remove", "renew", "settle_cancelled", "time_out", "told", "why"),
    }
)
_FOLDERS: Final = ("transitions", "reads", "plumbing")
_COMMENT: Final = re.compile(r"--.*")
_WORD: Final = re.compile(r"\w+")
#: Where the text of a key begins in `keys.lua`.
_KEY: Final = re.compile(r"'(?=celeriac:|task:)")
#: `local function name`, `function name` of a name that an earlier part declares, `local name, name`.
_DEFINITION: Final = re.compile(r"^(?:local )?function (\w+)|^local ([\w, ]+)", re.MULTILINE)


#: The frame of the library. While a server loads it, Lua's own functions are not there: all is made at the first call.
#: What a script finds in the global variable ARGV, a function is given.
_MAKES: Final = "local ARGV, bodies\nlocal function make()\nlocal made = {}"
_RUNS: Final = """local function run(name, arguments)
  if not bodies then make() end
  ARGV = arguments
  return bodies[name]()
end"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script; `sha` is what EVALSHA takes, and `function` what FCALL takes, "" if it stands alone."""

    name: str
    source: str
    sha: str
    function: str = ""


@dataclass(frozen=True, slots=True)
class Library:
    """What FUNCTION LOAD takes. Its name follows from its text: each version of the text is a library of its own."""

    name: str
    source: str


@cache
def script(name: str, prefix: str = "") -> Script:
    """Return the script `lua/*/NAME.lua`; a transition has those shared parts in front that it uses.

    Those with shared parts build their keys under `prefix`, which is a setting (`key_prefix`).
    """
    body = _body(name)
    if name not in _functions():
        return Script(name, body, _sha(body))
    source = "\n".join([*(_under(prefix, part) for part in parts_of(body)), "begin_call()", body])
    # A function's name must be the only one of its server.
    return Script(name, source, _sha(source), f"{library(prefix).name}_{name}")


@cache
def library(prefix: str = "") -> Library:
    """Return all that use shared parts, as functions of one library. Each prefix of keys has a library of its own."""
    names = _functions()
    bodies = [f"made.{name} = function()\nbegin_call()\n{_body(name)}\nend" for name in names]
    text = "\n".join([_MAKES, *(_under(prefix, part) for part in SHARED), *bodies, "bodies = made", "end"])
    made = f"{LIBRARY_PREFIX}{_sha(text)[:12]}"
    functions = [
        f"redis.register_function{{function_name = '{made}_{name}', flags = {{{_flags_of(name)}}},"
        f" callback = function(_, arguments) return run('{name}', arguments) end}}"
        for name in names
    ]
    return Library(made, "\n".join([f"#!lua name={made}", text, _RUNS, *functions]))


@cache
def every_function(prefix: str = "") -> tuple[Script, ...]:
    """Return all that use shared parts."""
    return tuple(script(name, prefix) for name in _functions())


def parts_of(source: str) -> list[str]:
    """Return the shared parts whose names a script uses, or the parts after them, in the order of `SHARED`.

    The server makes all functions of a script anew for each call: with all parts a short one takes twice its time.
    """
    parts: list[str] = []
    words = _words(source)
    for part in reversed(SHARED):
        if part in _ALWAYS or not _names_of(part).isdisjoint(words):
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


def _under(prefix: str, part: str) -> str:
    """Return a shared part whose keys begin with `prefix`, which holds neither quotes nor backslashes."""
    text = shared_part(part)
    if part != "keys" or not prefix:
        return text
    return _KEY.sub(lambda _: f"'{prefix}", text).replace("prefix = ''", f"prefix = '{prefix}'", 1)


@cache
def shared_part(part: str) -> str:
    """Return the text `lua/shared/PART.lua`."""
    return _text("shared", part)


@cache
def _functions() -> tuple[str, ...]:
    """Return the names of all that use shared parts."""
    return tuple(sorted(_names_in("transitions") | WITH_PARTS))


def _body(name: str) -> str:
    return _text(next(folder for folder in _FOLDERS if name in _names_in(folder)), name)


def _flags_of(name: str) -> str:
    return "'allow-oom'" if name in _WHEN_FULL else ""


def _sha(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


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
