"""The slow soak: mixed load through all doors, while everything is killed, stalled and cut off; then it is counted.

    make soak HOURS=1                                    # or a fraction: HOURS=0.05
    make soak HOURS=1 DATABASE=postgresql SEED=7 NICE=10 JSON=soak.json

It starts the platform as processes, with servers of its own, below a temporary folder. For the given time it submits
and uses tasks at every door, and a random number generator, whose seed is printed, decides what is killed, stalled
and cut off. Then the havoc and the load stop, the platform settles, and everything that was accepted is looked for.
It prints one table, and exits with 1 if a count that must be zero is not.

pytest does not collect it: it takes as long as it is told to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import redis.asyncio as redis

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.soak.counts import Zeroes, read_produced, unexpected_lines
from tests.kit.soak.definition_doors import DefinitionDoors
from tests.kit.soak.doors import GROUPS, USERS, Knocker, knock
from tests.kit.soak.file_doors import FileDoors
from tests.kit.soak.followers import TaskFollower, UserFollower
from tests.kit.soak.havoc import Havoc
from tests.kit.soak.key_owners import orphans, unknown_functions
from tests.kit.soak.leaks import Leaks
from tests.kit.soak.ledger import Ledger
from tests.kit.soak.processes import renice
from tests.kit.soak.records import FINAL, read_marks, read_records
from tests.kit.soak.servers import Plan, SoakPlatform
from tests.kit.soak.snapshots import Snapshots
from tests.kit.soak.table import by_name, table_of
from tests.kit.soak.task_doors import TaskDoors
from tests.kit.tokens import token_of
from tests.kit.waiting import serves

#: How long the platform is left alone before and after, for figures of a quiet platform (seconds).
_QUIET_S = 15
#: How long everything may take to end after the load has stopped (seconds).
_SETTLE_S = 240
#: How long records and uploads are kept (seconds): short, so that what nobody owns shows at the end, and longer than
#: history may be away on a busy machine, because it reads results from the records.
_RETENTION_S = 300
#: In the second half these are stalled and cut off, but not ended, to see whether they grow.
_SHELTERED = ("api-2", "worker-2", "beat-2", "remote-2", "executor")


class Soak:
    """One run, from the start of the platform to the table."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._seconds = arguments.hours * 3600
        self._plan = Plan(folder, arguments.database, _RETENTION_S, _RETENTION_S)
        self._platform = SoakPlatform(self._plan)
        self._ledger = Ledger()
        self._knocker = Knocker(self._platform.urls, self._ledger, random.Random(f"load {arguments.seed}"))
        self._leaks = Leaks(self._platform)
        chance = random.Random(f"havoc {arguments.seed}")
        self._havoc = Havoc(self._platform, self._ledger, chance, every_s=arguments.havoc_every)
        self._zeroes = Zeroes(self._ledger)
        self._followers: list[UserFollower] = []
        self._servers: dict[str, tuple[float, float]] = {}

    async def run(self) -> int:
        """Run, print the table, and return the exit code."""
        began = time.time()
        await self._platform.start()
        try:
            await self._wait_for_apis()
            self._snapshots = Snapshots(self._platform.store_url)
            background = [asyncio.create_task(one.run()) for one in (self._leaks, self._snapshots)]
            background += self._follow_users()
            _say("the platform runs")
            await asyncio.sleep(_QUIET_S)
            before = self._leaks.quiet(_QUIET_S)
            await self._load_and_havoc()
            _say("the havoc and the load have stopped; everything settles")
            self._platform.processes.start_all()
            await self._count()
            after = self._leaks.quiet(_QUIET_S)
            self._servers = {name: (before.get(name, 0), value) for name, value in after.items()}
            for task in background:
                task.cancel()
        finally:
            await self._platform.processes.stop()
            await self._knocker.close()
        return self._tell(time.time() - began)

    async def _wait_for_apis(self) -> None:
        while True:
            if all([await self._answers(url) for url in self._platform.urls]):
                return
            await asyncio.sleep(0.5)

    async def _answers(self, url: str) -> bool:
        async with httpx.AsyncClient(base_url=url, timeout=5) as client:
            return await serves(client, "/readyz")

    def _follow_users(self) -> list[asyncio.Task[None]]:
        settings = self._platform.settings()
        for user in USERS:
            token = token_of(settings, user_id=user, scopes=[])
            self._followers.append(UserFollower(self._ledger, self._platform.urls, user, token))
        return [asyncio.create_task(follower.run()) for follower in self._followers]

    # --- load

    async def _load_and_havoc(self) -> None:
        knocker = self._knocker
        tasks, definitions = TaskDoors(knocker), DefinitionDoors(knocker)
        files = FileDoors(knocker, incoming=self._platform.incoming, grpc_ports=self._platform.grpc_ports)
        doors: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (tasks.submit, 0.4), (tasks.batch, 6), (tasks.call, 1.5), (tasks.chat, 2), (tasks.read, 0.7),
            (tasks.cancel, 3), (tasks.retry, 6), (tasks.limit, 20), (files.upload, 8), (files.tus, 12),
            (files.hand_over, 8), (definitions.strict, 40), (definitions.loose, 30), (TaskFollower(knocker).once, 3),
        ]  # fmt: skip
        pace = self._arguments.pace
        load = [asyncio.create_task(knock(knocker, once, every_s=every_s / pace)) for once, every_s in doors]
        havoc = asyncio.create_task(self._havoc.run())
        await asyncio.sleep(self._seconds / 2)
        _say("the second half begins")
        self._leaks.since = time.time()
        self._havoc.sheltered = lambda role: role.name in _SHELTERED
        await asyncio.sleep(self._seconds / 2)
        havoc.cancel()
        await asyncio.gather(havoc, return_exceptions=True)
        self._knocker.stopped.set()
        await self._platform.processes.end("producer")
        await asyncio.gather(*load)
        await files.close()

    # --- the end

    async def _count(self) -> None:
        store_settings = Settings().store
        async with (
            TaskStore(self._platform.store_url, store_settings, patience_s=60) as store,
            redis.Redis.from_url(self._platform.store_url, decode_responses=True) as client,
        ):
            await self._freeze()
            await self._settle(client)
            read_produced(self._platform.produced, self._ledger)
            records = await asyncio.to_thread(read_records, self._platform.database_url)
            self._zeroes.tasks(records, read_marks(self._platform.marks))
            self._zeroes.slots(records)
            await self._zeroes.store(store, client, records)
            self._zeroes.users(self._followers, records)
            await self._snapshots.look()
            self._zeroes.note("history: differs from the store", self._snapshots.differences(records))
            self._ledger.watched["records compared with history"] = len(self._snapshots.rows)
            _say("waiting until records and uploads expire")
            await asyncio.sleep(self._plan.retention_s + 75)
            self._zeroes.files(self._platform, records)
            found, kinds = await orphans(client)
            self._ledger.watched.update({f"keys left: {kind}": count for kind, count in kinds.items()})
            self._zeroes.note("leaked: keys without an owner", [name for names in found.values() for name in names])
            self._zeroes.note("leaked: kinds of keys unknown to the soak", sorted(unknown_functions()))
        self._zeroes.note("leaked: processes", [g.name for g in self._leaks.growths() if g.leaks])
        self._zeroes.note(
            "crashed: ended by themselves", [f"{n} {code}" for n, code in self._platform.processes.crashes]
        )
        self._zeroes.note("logged: lines that no havoc explains", unexpected_lines(self._platform.folder))
        self._zeroes.counts.update(self._ledger.faults)

    async def _freeze(self) -> None:
        """Pause all groups, submit tasks, and compare the groups' figures with what must wait and run."""
        for group in GROUPS:
            await self._knocker.insist("groups", "DELETE", f"/api/v1/groups/{group}/limits")
            await self._knocker.insist("groups", "POST", f"/api/v1/groups/{group}/resume")
        await self._until_idle(because="groups are idle before they are counted")
        wrong = []
        for number, group in enumerate(GROUPS, 1):
            await self._knocker.insist("groups", "POST", f"/api/v1/groups/{group}/pause")
            document = {"type": "soak.nap", "payload": {"seconds": 0}, "queue": group, "max_retries": 60}
            for _ in range(number * 3):
                headers = {"Idempotency-Key": secrets.token_hex(12)}
                answer = await self._knocker.insist("freeze", "POST", "/api/v1/tasks", json=document, headers=headers)
                if answer is not None:
                    self._ledger.accept(answer.json()["task_id"], "freeze", "nap")
        answer = await self._knocker.insist("groups", "GET", "/api/v1/groups")
        stats = {g["name"]: (g["waiting"], g["running"]) for g in (answer.json()["groups"] if answer else [])}
        for number, group in enumerate(GROUPS, 1):
            if stats.get(group) != (number * 3, 0):
                wrong.append(f"{group}: (waiting, running) is {stats.get(group)}, not {(number * 3, 0)}")
            await self._knocker.insist("groups", "POST", f"/api/v1/groups/{group}/resume")
        self._zeroes.note("wrong counters of groups", wrong)

    async def _until_idle(self, *, because: str) -> None:
        until = time.time() + _SETTLE_S
        busy: dict[str, Any] = {}
        while time.time() < until:
            answer = await self._knocker.insist("groups", "GET", "/api/v1/groups")
            groups = answer.json()["groups"] if answer is not None else []
            busy = {g["name"]: (g["waiting"], g["running"]) for g in groups if g["waiting"] or g["running"]}
            scheduled = await self._knocker.insist("groups", "GET", "/api/v1/tasks?status=scheduled,retrying&limit=1")
            if answer is not None and not busy and scheduled is not None and not scheduled.json()["items"]:
                active = await self._knocker.insist("groups", "GET", "/api/v1/definitions?status=ACTIVE&limit=1")
                if active is not None and not active.json()["items"]:
                    return
            await asyncio.sleep(1)
        _say(f"not so after {_SETTLE_S} s: {because}: {busy}")

    async def _settle(self, client: redis.Redis) -> None:
        """Wait until all tasks have ended, and history has followed."""
        await self._until_idle(because="all tasks end")
        until = time.time() + _SETTLE_S
        while time.time() < until:
            records = await asyncio.to_thread(read_records, self._platform.database_url)
            answer = await self._knocker.insist("start", "GET", "/readyz")
            behind = answer.json()["parts"].get("ledger", {}).get("behind_events", 1) if answer is not None else 1
            open_ones = sum(row["status"] not in FINAL for row in records.tasks.values())
            if not behind and not open_ones and not records.unsettled_firings:
                return
            await asyncio.sleep(2)
        _say(f"not settled after {_SETTLE_S} s: {open_ones} tasks are open in history, {behind} events behind")

    def _tell(self, took_s: float) -> int:
        ledger, zeroes = self._ledger, self._zeroes.counts
        accepted = by_name({(t.door,): 0 for t in ledger.accepted.values()})
        accepted.update(t.door for t in ledger.accepted.values())
        done = {f"accepted: {door}": count for door, count in accepted.items()}
        done |= {f"refused: {name}": count for name, count in by_name(ledger.refused).items()}
        done |= {f"unanswered: {name}": count for name, count in ledger.unanswered.items()}
        done |= {f"havoc: {name}": count for name, count in ledger.actions.items()} | dict(ledger.watched)
        run = {
            "seed": self._arguments.seed, "database": self._arguments.database, "hours of load": self._arguments.hours,
            "minutes in all": round(took_s / 60, 1), "tasks accepted": len(ledger.accepted),
            "kills, terms, stalls and cuts": sum(ledger.actions.values()), "cores": os.cpu_count(),
            "load average": " ".join(f"{load:.1f}" for load in os.getloadavg()), "nice": self._arguments.nice,
        }  # fmt: skip
        growths = self._leaks.growths()
        print(table_of(run, done, zeroes, growths, self._servers))
        bad = {name: count for name, count in zeroes.items() if count}
        for name in bad:
            print(f"\n{name}: {bad[name]}", *ledger.examples.get(name, [])[:10], sep="\n    ")
        if self._arguments.json:
            grew = [vars(g) for g in growths]
            report = {
                "run": run,
                "done": done,
                "zero": zeroes,
                "grew": grew,
                "servers": self._servers,
                "examples": ledger.examples,
            }
            Path(self._arguments.json).write_text(json.dumps(report, indent=2))
        return 1 if bad else 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """Read the command line and soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0, help="how long to load; fractions are fine")
    parser.add_argument("--seed", type=int, default=None, help="of the havoc and the load; a random one by default")
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql (a server of our own), or a URL")
    parser.add_argument("--nice", type=int, default=10, help="how far all processes yield to other work")
    parser.add_argument("--pace", type=float, default=1.0, help="a factor for the load")
    parser.add_argument("--havoc-every", type=float, default=10.0, help="seconds between two acts of havoc, on average")
    parser.add_argument("--json", default="", help="a file for the figures")
    parser.add_argument("--folder", type=Path, default=None, help="where to work, and to leave everything afterwards")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(10**6)
    renice(arguments.nice)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL's user must get into it
    _say(f"seed {arguments.seed}, logs and data in {folder}")
    code = asyncio.run(Soak(arguments, folder.absolute()).run())
    if code == 0 and arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
