"""What must be zero at the end, counted from history, the store, the handlers' marks and the disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import redis.asyncio as redis

from celeriac.model import ms_from_utc
from celeriac.store import keys
from celeriac.store.counts import read_counts
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import moment_of
from tests.kit.soak.doors import GROUPS
from tests.kit.soak.followers import UserFollower
from tests.kit.soak.ledger import Ledger
from tests.kit.soak.records import FINAL, Marks, Records
from tests.kit.soak.servers import SoakPlatform

#: How each kind of task may end if nobody cancelled it. Other kinds may end in any way.
_COMPLETES = ("nap", "thread", "steps", "grpc", "remote", "file", "celery")
_MAY_END = {
    **{kind: {("COMPLETED", "")} for kind in _COMPLETES},
    "doomed": {("FAILED", "broken")},
    "expiring": {("COMPLETED", ""), ("FAILED", "expired")},
    "handed": {("COMPLETED", ""), ("FAILED", "worker_lost")},
    "report": {("COMPLETED", ""), ("FAILED", "worker_lost")},
}
_MARKED = ("nap", "thread", "steps", "remote", "celery")
#: Nothing that is killed or cut off leads to these lines in a log.
_UNEXPECTED = re.compile(
    r"never retrieved|never awaited|Unclosed|a step failed|\[critical|Segmentation fault|could not be recorded"
)


class Zeroes:
    """Counts of what must not be, each with examples in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.counts: dict[str, int] = {}

    def note(self, what: str, examples: list[str]) -> None:
        """Note one count; `examples` has one text for each."""
        self.counts[what] = len(examples)
        self._ledger.examples.setdefault(what, []).extend(examples[:10])

    # --- tasks

    def tasks(self, records: Records, marks: Marks) -> None:
        """Count what went wrong with tasks."""
        accepted, tasks, timelines = self._ledger.accepted, records.tasks, records.timelines
        self.note(
            "lost: accepted, but unknown",
            [f"{t.task_id} {t.door} {t.kind}" for t in accepted.values() if t.task_id not in tasks],
        )
        self.note(
            "stuck: has not ended",
            [f"{i} {r['type']} {r['status']}" for i, r in tasks.items() if r["status"] not in FINAL],
        )
        doubled, moved, unlike = [], [], []
        for task_id, timeline in timelines.items():
            task = accepted.get(task_id)
            if task_id not in tasks or tasks[task_id]["queue"] == "notified":
                continue  # programs report these tasks themselves, and may begin them again
            if timeline.ends > 1 + (task.retried if task else 0):
                doubled.append(f"{task_id} {timeline.statuses}")
            if timeline.moved_after_an_end:
                moved.append(f"{task_id} {timeline.statuses}")
            if (
                timeline.statuses[-1][0] != tasks[task_id]["status"]
                or sum(timeline.starts.values()) < tasks[task_id]["attempt"]
            ):
                unlike.append(f"{task_id} {tasks[task_id]['status']} {tasks[task_id]['attempt']} {timeline.statuses}")
        self.note("doubled: ended again", doubled)
        self.note("doubled: changed after the end", moved)
        self.note("history: a timeline does not lead to its record", unlike)
        self._runs(records, marks)
        self._ends(records)

    def _runs(self, records: Records, marks: Marks) -> None:
        begun: Counter[str] = Counter()
        for (task_id, _), count in marks.begun.items():
            begun[task_id] += count
        claimed = {task_id: sum(timeline.starts.values()) for task_id, timeline in records.timelines.items()}
        self.note(
            "doubled: a run without a claim",
            [f"{i}: {n} runs, {claimed.get(i, 0)} claims" for i, n in begun.items() if n > claimed.get(i, 0)],
        )
        finished = {task_id for task_id, _ in marks.ended}
        self.note(
            "lost: completed without a run",
            [
                f"{t.task_id} {t.kind}"
                for t in self._ledger.accepted.values()
                if t.kind in _MARKED and t.task_id not in finished
                and records.tasks.get(t.task_id, {}).get("status") == "COMPLETED"
            ],
        )  # fmt: skip

    def _ends(self, records: Records) -> None:
        wrong = []
        for task in self._ledger.accepted.values():
            row = records.tasks.get(task.task_id)
            if row is None or task.kind not in _MAY_END or row["status"] not in FINAL:
                continue
            end = (row["status"], row["error_code"] or "")
            if end not in _MAY_END[task.kind] and not (task.cancelled and row["status"] == "CANCELLED"):
                wrong.append(f"{task.task_id} {task.door} {task.kind}: {end} {row['error_message']}")
        self.note("wrong end", wrong)

    # --- slots

    def slots(self, records: Records) -> None:
        """Count slots that ran twice or not at all, and definitions whose counters are wrong."""
        ran: dict[str, Counter[int]] = defaultdict(Counter)
        ended: dict[str, Counter[str]] = defaultdict(Counter)
        for row in records.tasks.values():
            if row["definition_id"] is None:
                continue
            extra = json.loads(row["extra"] or "{}")
            ended[row["definition_id"]][row["status"]] += 1
            if extra.get("trigger", "schedule") == "schedule":
                ran[row["definition_id"]][ms_from_utc(moment_of(extra["scheduled_at"]))] += 1
        doubled = [f"{d} {slot}: {n}" for d, slots in ran.items() for slot, n in slots.items() if n > 1]
        self.note("doubled: a slot ran again", doubled)
        missing = []
        for one in self._ledger.definitions:
            slots = {one.first_ms + one.step_ms * i for i in range(one.count)}
            missing += [f"{one.definition_id} {slot}" for slot in slots ^ set(ran[one.definition_id])]
        self.note("lost: slots that did not run, or were none", missing)
        wrong = []
        for d in records.definitions:
            ends, fired = ended[d["definition_id"]], sum(ran[d["definition_id"]].values())
            # Instances that waited when their definition was cancelled had fired, and never start.
            if d["status"] == "CANCELLED" and d["fired"] > fired:
                fired = d["fired"]
            found = (fired, ends["COMPLETED"], ends["FAILED"], ends["CANCELLED"])
            if found != (counted := (d["fired"], d["succeeded"], d["failed"], d["cancelled"])):
                wrong.append(f"{d['definition_id']} counts {counted}, its tasks say {found}")
        self.note("wrong counters of definitions", wrong)
        self.note("stuck: firings", ["one"] * records.unsettled_firings)

    # --- store

    async def store(self, store: TaskStore, client: redis.Redis, records: Records) -> None:
        """Count what the store has left over, and what its counters and its records say otherwise than history."""
        left = []
        indexes = [keys.LEASES, keys.DELAYED, keys.EXPIRING, keys.DEADLINES, keys.WATCHED]
        for group in (*GROUPS, "gpu"):
            indexes += [f(group) for f in (keys.waiting, keys.running, keys.remote, keys.remote_parked)]
        for name in indexes:
            left += [f"{name}: {member}" for member in await client.zrange(name, 0, -1)]
        async for name in client.scan_iter(match=keys.active("*"), count=1000):
            left += [f"{name}: {member}" for member in await client.zrange(name, 0, -1)]
        self.note("stuck: entries of indexes", left)
        counts = await read_counts(store)
        submitted: Counter[tuple[str, ...]] = Counter()
        finished: Counter[tuple[str, ...]] = Counter()
        started: Counter[tuple[str, ...]] = Counter()
        for task_id, row in records.tasks.items():
            submitted[row["queue"], row["type"]] += 1
            for status, _, _ in records.timelines[task_id].statuses:
                if status in FINAL:
                    finished[row["queue"], row["type"], status] += 1
                started[row["queue"], row["type"]] += status == "PROCESSING"
        wrong = []
        for name, true in (("submitted", submitted), ("started", started), ("finished", finished)):
            counted = counts.counters.get(name, {})
            for labels in {*counted, *true}:
                if labels[0] != "notified" and counted.get(labels, 0) != true.get(labels, 0):
                    wrong.append(
                        f"{name} {labels}: counted {counted.get(labels, 0)}, history has {true.get(labels, 0)}"
                    )
        self.note("wrong counters of the platform", wrong)

    # --- files and users

    def files(self, platform: SoakPlatform, records: Records) -> None:
        """Count files that no task owns, and files that were lost or are in two places."""
        folders = {path.name: path for path in (platform.storage / "videos").glob("*")}
        left = [str(path) for name, path in folders.items() if name not in records.tasks]
        left += [str(path) for path in (platform.storage / ".handoff").glob("*") if not path.name.endswith(".void")]
        left += [str(path) for path in platform.storage.glob("videos/*/.*")]
        left += [str(path) for path in platform.uploads.rglob("*") if path.is_file() and path.name != "lock"]
        self.note("leaked: files without an owner", left)
        places: Counter[str] = Counter()
        in_storage = set()
        for path in (*platform.storage.glob("videos/*/original*"), *platform.incoming.rglob("*")):
            if path.is_file():
                sha = hashlib.sha256(path.read_bytes()).hexdigest()
                places[sha] += 1
                if platform.storage in path.parents:
                    in_storage.add(path.parent.name)
        handed = self._ledger.handed
        self.note(
            "lost or doubled: files handed over",
            [f"{p}: {places[s]} places" for s, p in handed.items() if places[s] != 1],
        )
        taken = [t.task_id for t in self._ledger.accepted.values() if t.kind == "handed"]
        self.note("lost: a handed over file is not with its task", [i for i in taken if i not in in_storage])

    def users(self, followers: list[UserFollower], records: Records) -> None:
        """Count ends that a user's feed did not show, or showed again."""
        lost, doubled = [], []
        for follower in followers:
            for task_id, row in records.tasks.items():
                if row["user_id"] != follower.user_id:
                    continue
                ends, seen = records.timelines[task_id].ends, follower.ends[task_id]
                if seen < ends and not follower.unrecovered:
                    lost.append(f"user {follower.user_id}: {task_id} ended {ends} times, {seen} seen")
                elif seen > ends:
                    doubled.append(f"user {follower.user_id}: {task_id} ended {ends} times, {seen} seen")
        self.note("lost: ends that a user did not see", lost)
        self.note("doubled: ends that a user saw again", doubled)


def unexpected_lines(folder: Path) -> list[str]:
    """Return the lines of all logs that no fault from outside explains."""
    found = []
    for path in folder.glob("*.log"):
        with path.open(errors="replace") as lines:
            found += [f"{path.name}: {line.strip()[:300]}" for line in lines if _UNEXPECTED.search(line)]
    return found


def read_produced(path: Path, ledger: Ledger) -> None:
    """Take what the producer noted into the ledger; its last line may be half written."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        ledger.accept(one["task_id"], "delay" if one["kind"] == "celery" else "report", one["kind"])
