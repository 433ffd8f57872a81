"""What an operator should know about the store's server."""

from __future__ import annotations

import time
from dataclasses import dataclass

from celeriac.store.task_store import TaskStore


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The state of the server at one moment."""

    kind: str
    version: str
    append_only: bool
    append_fsync: str
    #: The folder of its files; '?' if it does not tell.
    folder: str
    last_write_ok: bool
    eviction: str
    #: Up to values of this length (bytes) a record is compact; None if the server does not tell.
    compact_bytes: int | None
    memory_bytes: int
    #: 0 means: no limit.
    max_memory_bytes: int
    role: str
    #: Round trip of a small call.
    answer_s: float
    #: This machine's clock minus the server's, exact to half of the round trip.
    clock_ahead_s: float


async def read_server_facts(store: TaskStore) -> ServerFacts:
    """Return the facts; raises `StoreUnavailableError`."""
    facts = await read_fields(store)
    before, started = time.time(), time.perf_counter()
    ((seconds, micros),) = await store.read(("TIME",))
    took = time.perf_counter() - started
    return ServerFacts(
        kind="Valkey" if "valkey_version" in facts else "Redis",
        version=facts.get("valkey_version") or facts.get("redis_version", "?"),
        append_only=facts.get("aof_enabled") == "1",
        append_fsync=await _setting(store, "appendfsync"),
        folder=await _setting(store, "dir"),
        last_write_ok=facts.get("aof_last_write_status", "ok") == "ok"
        and facts.get("rdb_last_bgsave_status", "ok") == "ok",
        eviction=facts.get("maxmemory_policy", "noeviction"),
        # By the older name of hash-max-listpack-value, which all servers know.
        compact_bytes=_number(await _setting(store, "hash-max-ziplist-value")),
        memory_bytes=int(facts.get("used_memory", 0)),
        max_memory_bytes=int(facts.get("maxmemory", 0)),
        role=facts.get("role", "master"),
        answer_s=took,
        clock_ahead_s=before + took / 2 - (int(seconds) + int(micros) / 1e6),
    )


@dataclass(frozen=True, slots=True)
class Replication:
    """How the replicas of the primary follow it."""

    #: By address: seconds since the replica said last how far it is.
    lags_s: dict[str, float]
    #: What the one that is furthest behind has not confirmed yet.
    behind_bytes: int
    #: How many replicas the primary wants before it accepts a write; -1 if it does not tell.
    least_replicas: int


async def read_replication(store: TaskStore) -> Replication:
    """Return how the replicas follow; raises `StoreUnavailableError`."""
    facts = await read_fields(store, "replication")
    lags_s: dict[str, float] = {}
    behind = 0
    for name, text in facts.items():
        if not (name.startswith("slave") and name[5:].isdecimal()):
            continue
        one = _replica(text)
        if one.get("state") == "online":
            lags_s[f"{one.get('ip', '?')}:{one.get('port', '?')}"] = float(one.get("lag", 0))
            behind = max(behind, int(facts.get("master_repl_offset", 0)) - int(one.get("offset", 0)))
    least = await _setting(store, "min-replicas-to-write")
    return Replication(lags_s, behind, int(least) if least.isdecimal() else -1)


def _replica(text: str) -> dict[str, str]:
    # The driver may have parsed the line, and then it is the text of a dictionary.
    separator = "=" if "=" in text else ": "
    pairs = (part.split(separator, 1) for part in text.strip("{}").replace("'", "").split(","))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


async def read_fields(store: TaskStore, *sections: str) -> dict[str, str]:
    """Return the fields of INFO, of all sections or of those named; raises `StoreUnavailableError`."""
    (info,) = await store.read(("INFO", *sections))
    # Whether the driver parses the reply depends on how the command was sent.
    if isinstance(info, dict):
        return {str(key): str(value) for key, value in info.items()}
    return dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)


async def _setting(store: TaskStore, name: str) -> str:
    # Managed servers refuse the CONFIG command.
    (reply,) = await store.read(("CONFIG", "GET", name), errors=True)
    if isinstance(reply, dict):
        return str(reply.get(name, "?"))
    return str(reply[1]) if isinstance(reply, list | tuple) and len(reply) > 1 else "?"


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
