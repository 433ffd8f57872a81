"""Who owns each key of the store, by the table of keys in `platform/celeriac/store/keys.py`."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from typing import Any

import redis.asyncio as redis

from celeriac.store import keys
from tests.kit.soak.doors import GROUPS

#: Keys of which there is one in an installation.
_SINGLE = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
_SINGLE |= {keys.api_keys(), keys.audit(), keys.link_secret()}
#: Keys of a task, of a group, of a user, and of a process or its code; the functions of `keys` that name them.
_OF_TASK = (
    *(keys.task_events, keys.checkpoint, keys.log, keys.open_conditions, keys.dependants, keys.steps, keys.signals),
)
#: Keys of a workflow: as long as its record is there.
_OF_WORKFLOW = (
    *(keys.workflow_nodes, keys.workflow_states, keys.workflow_events, keys.workflow_plan, keys.workflow_orders),
    keys.workflow_groups,
)
_OF_GROUP = (keys.waiting, keys.running, keys.group, keys.remote, keys.remote_parked, keys.gateways)
_OF_USER = (keys.feed, keys.active, keys.recent, keys.waits_of)
#: Keys of a rule: as long as it is there.
_OF_RULE = (keys.permits, keys.parked, keys.out, keys.queued, keys.arrivals, keys.holders, keys.turns, keys.rates)
_OF_PROCESS = (keys.worker, keys.granted, keys.nudge, keys.code)
#: Channels, which are no keys, and what is handled by itself.
_ELSEWHERE = {
    "live",
    "live_log",
    "live_workflow",
    "confirmed",
    "workflow",
    "remote_wake",
    "replies",
    "task",
    "api_keys",
    "audit",
    "link_secret",
    "idempotency",
    "once",
    "debounce",
    "answered",
}
#: Keys of kombu: which queues an exchange has.
_KOMBU = "_kombu.binding"
_KNOWN_GROUPS = {*GROUPS, "gpu", "notified"}


def unknown_functions() -> set[str]:
    """Return the functions of the table of keys that this module does not know: it must know all."""
    known = {
        f.__name__ for f in (*_OF_TASK, *_OF_WORKFLOW, *_OF_GROUP, *_OF_USER, *_OF_RULE, *_OF_PROCESS)
    } | _ELSEWHERE
    found = {
        name
        for name, function in inspect.getmembers(keys, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(function).return_annotation == "str"
    }
    return found - known


async def orphans(client: redis.Redis) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return the keys without an owner by kind, and the number of keys by kind. Nothing may change meanwhile."""
    found: dict[str, list[str]] = defaultdict(list)
    kinds: Counter[str] = Counter()
    names = [name async for name in client.scan_iter(count=1000)]
    records = {name.removeprefix(keys.task("")) for name in names if name.startswith(keys.task(""))}
    for name in names:
        kind, owned = await _look(client, name, records)
        kinds[kind] += 1
        if not owned:
            found[kind].append(name)
    return found, kinds


async def _look(client: redis.Redis, name: str, records: set[str]) -> tuple[str, bool]:
    """Return the kind of a key, and whether somebody owns it or it expires by itself."""
    expires: bool = await client.pttl(name) >= 0
    if name in _SINGLE:
        return "one for all", True
    if name.startswith(_KOMBU):
        return "kombu binding", True
    for function in _OF_TASK:
        if name.startswith(prefix := function("")):
            return function.__name__, expires or name.removeprefix(prefix) in records
    for function in _OF_WORKFLOW:
        if name.startswith(prefix := function("")):
            return function.__name__, expires or await client.exists(keys.workflow(name.removeprefix(prefix))) > 0
    if name.startswith(keys.workflow("")):
        return "workflow", expires or await client.hget(name, "status") == "RUNNING"  # type: ignore[misc]
    if name.startswith(keys.task("")):
        status, dependants = await client.hmget(name, "status", "dependants")  # type: ignore[misc]
        return "task", expires or dependants or status not in ("COMPLETED", "FAILED", "CANCELLED", None)
    for function in _OF_GROUP:
        if name.startswith(prefix := function("")):
            return function.__name__, expires or name.removeprefix(prefix) in _KNOWN_GROUPS
    for function in _OF_USER:
        if name.startswith(prefix := function("")):
            return function.__name__, expires or await _has_living_member(client, name, records)
    for function in _OF_RULE:
        if name.startswith(prefix := function("")):
            rule = name.removeprefix(prefix)
            return function.__name__, rule == "" or bool(await client.hexists(keys.RULES, rule))  # type: ignore[misc]
    if name.startswith(tuple(function("") for function in _OF_PROCESS)):
        return "process", expires
    if name.startswith("celeriac:idempotency:"):
        return "idempotency", expires
    for function in (keys.once, keys.debounce):
        if name.startswith(function("")):
            return function.__name__, expires or await client.hget(name, "id") in records  # type: ignore[misc]
    if name.startswith(keys.answered("")):
        return "answered", expires
    if name.split("\x06")[0] in _KNOWN_GROUPS:
        return "queue", True
    return "unknown", expires


async def _has_living_member(client: redis.Redis, name: str, records: set[str]) -> bool:
    if await client.type(name) != "zset":
        return False
    members: list[Any] = await client.zrange(name, 0, -1)
    return bool(members) and all(member in records or member.partition(" ")[2] in records for member in members)
