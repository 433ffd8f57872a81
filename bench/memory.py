"""What does a task cost the store: its memory while it waits and after its end, and the CPU time of its whole life?

Tasks with payloads of several lengths are submitted, claimed and completed through the store's own client, alone and
many at once, and their messages are popped as a worker pops them. BullMQ does the same, in the same run.
Memory is the difference of `used_memory`, CPU time that of the server's main thread. `--encodings` compares both
encodings that the server has for hashes. `--many N` fills the store with N tasks, and measures it then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import bullmq
import redis
from figures import figure, table, write_json
from machine import Store, choose_cores, store_on, versions

from celeriac.errors import IllegalTransitionError
from celeriac.model import Claim, Submission
from celeriac.settings import GroupSettings, Settings
from celeriac.store.counts import read_counts, read_state
from celeriac.store.submit_call import SubmissionKind
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.activity import running_tasks
from celeriac.store.watching.waiting_tasks import ready_tasks, tasks_with_ids

GROUP: Final = "bench"
#: The list of its messages, for tasks of the usual priority.
_LIST: Final = f"{GROUP}\x06\x169"
#: Payloads (bytes).
LENGTHS: Final = (2, 79, 500)
#: A hash stays compact up to values of this many bytes, as `celeriac up` and `deploy/` set it.
COMPACT: Final = ("--hash-max-listpack-value", "1024")
_SETTINGS: Final = Settings(
    groups={GROUP: GroupSettings(max_queue_length=100_000_000)},
    retention=86_400,
    # A server whose disk is busy answers late; a fill of hours must not end for that.
    store_timeout=120,
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What the server says of itself: bytes in use, and the CPU time of its main thread (seconds).

    The stream of all events is left out: it is bounded, however many tasks there are. BullMQ has one too.
    """

    memory: int
    cpu_s: float

    @classmethod
    def at(cls, store: Store, database: int) -> Looked:
        with store.client(database) as client:
            info = client.info()
            events = client.memory_usage("celeriac:events", samples=0) or 0
        cpu_s = info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]
        return cls(info["used_memory"] - events, cpu_s)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one task costs the store."""

    waiting_bytes: float
    finished_bytes: float
    submit_us: float
    run_us: float


def payload_of(length: int) -> str:
    """Return a JSON object of this many bytes."""
    return "{}" if length < 12 else json.dumps({"text": "x" * (length - 11)})


async def submit_many(tasks: TaskStore, first: int, count: int, payload: str, together: int) -> None:
    """Submit tasks, so many at once."""
    for start in range(first, first + count, together):
        await asyncio.gather(
            *(tasks.submit(_task(n, payload)) for n in range(start, min(start + together, first + count)))
        )


def _task_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def _task(number: int, payload: str) -> Submission:
    return Submission(_task_id(number), "bench.noop_async", group=GROUP, payload=payload, max_retries=3)


async def run_many(tasks: TaskStore, store: Store, database: int, together: int) -> None:
    """Claim and complete all that waits, so many at once."""
    with store.client(database) as client:
        while messages := client.rpop(_LIST, together):
            ids = [json.loads(message)["headers"]["id"] for message in messages]
            claims = await asyncio.gather(*(tasks.claim(task_id, worker="celeriac@host-1") for task_id in ids))
            await asyncio.gather(*(tasks.complete(claim, "null") for claim in claims if isinstance(claim, Claim)))


async def cost_of(store: Store, database: int, *, count: int, length: int, together: int) -> Cost:
    """Run so many tasks with this payload through their lives in a database of their own."""
    payload = payload_of(length)
    async with TaskStore(store.url(database), _SETTINGS.store) as tasks:
        await submit_many(tasks, 0, 100, payload, together)
        await run_many(tasks, store, database, together)
        before = Looked.at(store, database)
        await submit_many(tasks, 100, count, payload, together)
        waiting = Looked.at(store, database)
        await run_many(tasks, store, database, together)
        ended = Looked.at(store, database)
    with store.client(database) as client:
        client.flushdb()
    return Cost(
        (waiting.memory - before.memory) / count,
        (ended.memory - before.memory) / count,
        (waiting.cpu_s - before.cpu_s) / count * 1e6,
        (ended.cpu_s - waiting.cpu_s) / count * 1e6,
    )


def cost_of_peer(store: Store, database: int, folder: Path, *, count: int, length: int, together: int) -> Cost:
    """Run as many jobs of BullMQ with data of this length."""
    found = subprocess.run(
        ["node", "memory.mjs", *map(str, (count, length, together))],
        cwd=folder,
        env={**os.environ, "BENCH_URL": store.url(database)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(found.stdout)
    with store.client(database) as client:
        client.flushdb()
    return Cost(said["waiting"]["bytes"], said["ended"]["bytes"], said["waiting"]["us"], said["ended"]["us"])


# --- many

#: Tasks that one call of `submit_each` stores.
_AT_ONCE: Final = 4096
#: What of a look is measured: so many calls, at most for so long (seconds).
_CALLS: Final = 200
_LOOK_S: Final = 10.0
#: The worker of the claims.
_WORKER: Final = "celeriac@host-1"


async def fill(tasks: TaskStore, first: int, count: int, payload: str) -> None:
    """Submit tasks in large batches, so that only the store takes time; say every half minute how far it is."""
    kind = SubmissionKind(_task(0, payload), _SETTINGS.store.queues).text
    began = said = time.monotonic()
    for start in range(first, first + count, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, first + count))
        for reply in await tasks.submit_each((_task_id(n), payload, kind) for n in numbers):
            if reply != "PENDING":
                raise RuntimeError(f"a submission was answered with {reply!r}")
        if (now := time.monotonic()) > said + 30:
            said = now
            print(f"{start - first:,} of {count:,} after {now - began:.0f} s", file=sys.stderr, flush=True)


def looks(tasks: TaskStore) -> dict[str, Callable[[int], Awaitable[Any]]]:
    """Return what must not take longer with many tasks, by name; each gets a number that grows."""
    waiting = f"celeriac:waiting:{GROUP}"

    async def page(number: int) -> None:
        (ids,) = await tasks.read(("ZRANGE", waiting, 50 * number, 50 * number + 49))
        assert len(await tasks_with_ids(tasks, ids)) == 50

    return {
        "page": page,
        "ready": lambda _: ready_tasks(tasks, [GROUP, "default"], 50),
        "why": lambda number: tasks.why(_task_id(5000 + number)),
        "groups": lambda _: tasks.groups(also=("default", GROUP)),
        "metrics": lambda _: read_state(tasks),
        "counts": lambda _: read_counts(tasks),
        "running": lambda _: running_tasks(tasks, 50, most_bytes=1_000_000),
        "sweep": lambda _: tasks.sweep(GROUP),
        "reap": lambda _: tasks.reap(),
        "promote": lambda _: tasks.promote(),
        "retry": lambda number: _refused(tasks.retry(_task_id(5000 + number))),
        "cancel": lambda number: tasks.cancel(_task_id(8000 + number)),
    }


async def _refused(call: Awaitable[Any]) -> None:
    with suppress(IllegalTransitionError):
        await call


async def many(store: Store, count: int, payload: str) -> dict[str, Any]:
    """Fill the store with tasks that wait; return what calls cost then: CPU time of the store, and time on the wall."""
    found: dict[str, Any] = {"tasks": count}
    async with TaskStore(store.url(0), _SETTINGS.store) as tasks:
        before, began = Looked.at(store, 0), time.monotonic()
        await fill(tasks, 0, count, payload)
        filled = Looked.at(store, 0)
        found |= {
            "bytes": round((filled.memory - before.memory) / count),
            "gigabytes": round(filled.memory / 1e9, 2),
            "fill_s": round(time.monotonic() - began, 1),
            "fill_us": round((filled.cpu_s - before.cpu_s) / count * 1e6, 1),
        }
        await submit_many(tasks, count, 5000, payload, 50)
        submitted = Looked.at(store, 0)
        with store.client(0) as client:
            ids = [json.loads(message)["headers"]["id"] for message in client.rpop(_LIST, 5000)]
        popped = Looked.at(store, 0)
        claims: list[Claim] = []
        for start in range(0, len(ids), 50):
            answers = await asyncio.gather(*(tasks.claim(one, worker=_WORKER) for one in ids[start : start + 50]))
            claims += [answer for answer in answers if isinstance(answer, Claim)]
        claimed = Looked.at(store, 0)
        for start in range(0, len(claims), 50):
            await asyncio.gather(*(tasks.complete(claim, "null") for claim in claims[start : start + 50]))
        ended = Looked.at(store, 0)
        steps = {"submit": (filled, submitted), "claim": (popped, claimed), "complete": (claimed, ended)}
        found |= {f"{name}_us": round((b.cpu_s - a.cpu_s) / 5000 * 1e6, 1) for name, (a, b) in steps.items()}
        for name, look in looks(tasks).items():
            found |= await _cost_of_look(store, name, look)
    return found


async def _cost_of_look(store: Store, name: str, look: Callable[[int], Awaitable[Any]]) -> dict[str, float]:
    before = Looked.at(store, 0)
    took: list[float] = []
    give_up_at = time.monotonic() + _LOOK_S
    while len(took) < _CALLS and time.monotonic() < give_up_at:
        began = time.perf_counter()
        await look(len(took))
        took.append(time.perf_counter() - began)
    after = Looked.at(store, 0)
    spent_us = (after.cpu_s - before.cpu_s) / len(took) * 1e6
    return {f"{name}_us": round(spent_us), f"{name}_ms": round(statistics.median(took) * 1e3, 2)}


def rewrite(store: Store) -> None:
    """Compact the append-only file, as production does now and then."""
    with store.client(0) as client:
        client.bgrewriteaof()
        while any(client.info("persistence")[f"aof_rewrite_{what}"] for what in ("in_progress", "scheduled")):
            time.sleep(0.2)


def wait_for_loading(store: Store) -> None:
    """Wait until a server that has just started has read its append-only file."""
    with store.client(0) as client:
        while True:
            with suppress(redis.BusyLoadingError):
                if not client.info("persistence")["loading"]:
                    return
            time.sleep(0.05)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="tasks per payload (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, in turn (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help="without BullMQ, which needs Node and npm")
    parser.add_argument("--encodings", action="store_true", help="compare the encodings of hashes instead")
    parser.add_argument("--many", type=int, metavar="N", nargs="+", help="fill the store with N tasks instead")
    parser.add_argument("--server", metavar="PROGRAM", help="with --many: this server instead of the bundled Valkey")
    parser.add_argument("--json", help="write the figures to this file too; `-`: to the terminal")
    options = parser.parse_args()
    found: dict[str, Any]
    if options.many:
        found = {"many": [_many(count, options.server) for count in options.many]}
        names = [*found["many"][0]][1:]
        print(
            table(
                ["", *(f"{row['tasks']:,}" for row in found["many"])],
                [[n, *(str(row[n]) for row in found["many"])] for n in names],
            )
        )
    elif options.encodings:
        lengths = (100, 200, 400, 600, 800, 1000)
        servers = {"compact": COMPACT, "default": ()}
        found = {"encodings": _measured(servers, lengths, options.count, options.rounds, (50,), peer=False)}
    else:
        subjects = {"celeriac": COMPACT}
        lives = _measured(subjects, LENGTHS, options.count, options.rounds, (50, 1), peer=not options.alone)
        found = {"lives": lives, "targets": targets_of(lives)}
    if options.json:
        write_json(options.json, "memory", {**found, "versions": versions("celeriac", "redis")})


def targets_of(lives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of the payload in the middle, many at once, by subject: what the table of speed shows."""
    return {row["subject"]: row for row in lives if row["payload"] == LENGTHS[1] and row["together"] > 1}


def _measured(
    servers: Mapping[str, Sequence[str]],
    lengths: Sequence[int],
    count: int,
    rounds: int,
    togethers: Sequence[int],
    *,
    peer: bool,
) -> list[dict[str, Any]]:
    programs = bullmq.installed() if peer else None
    found: list[dict[str, Any]] = []
    cores = choose_cores()
    costs: dict[tuple[str, int, int], list[Cost]] = defaultdict(list)
    for _ in range(rounds):
        for name, configuration in servers.items():
            with tempfile.TemporaryDirectory() as folder, store_on(Path(folder), cores.others, *configuration) as store:
                for length in lengths:
                    for together in togethers:
                        few = count if together > 1 else min(count, 5000)
                        costs[name, length, together].append(
                            asyncio.run(cost_of(store, 0, count=few, length=length, together=together))
                        )
                        if programs is not None:
                            costs["BullMQ", length, together].append(
                                cost_of_peer(store, 1, programs, count=few, length=length, together=together)
                            )
    rows = []
    for (name, length, together), its in sorted(costs.items(), key=lambda pair: (pair[0][1], -pair[0][2], pair[0][0])):
        values = {part.name: figure(getattr(one, part.name) for one in its) for part in fields(Cost)}
        shown = [value.text(1 if part.endswith("us") else 0) for part, value in values.items()]
        facts = {"subject": name, "payload": length, "together": together}
        found.append(facts | {part: value.as_json() for part, value in values.items()})
        rows.append([*map(str, facts.values()), *shown])
    head = ["subject", "payload", "at once", "bytes waiting", "bytes finished", "µs submit", "µs run"]
    print(table(head, rows))
    return found


def _many(count: int, program: str | None) -> dict[str, Any]:
    core = choose_cores().others
    with tempfile.TemporaryDirectory() as folder:
        with store_on(Path(folder), core, *COMPACT, program=program) as store:
            found = asyncio.run(many(store, count, payload_of(79)))
            began = time.monotonic()
            rewrite(store)
            found["rewrite_s"] = round(time.monotonic() - began, 1)
            with store.client(0) as client:
                info = client.info()
            found["file_gigabytes"] = round(info["aof_current_size"] / 1e9, 2)
            found["fork_ms"] = round(info["latest_fork_usec"] / 1000, 1)
        began = time.monotonic()
        with store_on(Path(folder), core, *COMPACT, program=program) as store:
            wait_for_loading(store)
            found["restart_s"] = round(time.monotonic() - began, 1)
    found["server"] = f"{info.get('server_name', 'redis')} {info['redis_version']}, {info['mem_allocator']}"
    # A long run that is ended keeps what it has found.
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
