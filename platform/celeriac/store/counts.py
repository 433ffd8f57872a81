"""Counts of what happened on the platform, made by the transitions themselves; and the platform's present state.

The counts are fields of one hash (`keys.COUNTS`), written in the same atomic step as what they count. So they are
exact, every process reads the same ones, and they survive all processes. `lua/shared/counts.lua` names the fields.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from celeriac.store import keys
from celeriac.store.labels import OTHER, SEPARATOR
from celeriac.store.life import field_of
from celeriac.store.owners import OWNERS_COMMAND, owners_from
from celeriac.store.reading import serving
from celeriac.store.records import limits_of_groups
from celeriac.store.task_store import TaskStore

#: Upper bounds of the buckets for waiting and running times (seconds). One more bucket is above them all.
BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
#: Metrics name at most this many groups, at most this many types, and at most this many rules.
MAX_NAMED: Final = 200
#: The counters by their short name: the full name, and the labels.
_COUNTERS: Final = {
    "s": ("submitted", ("group", "type")),
    "a": ("started", ("group", "type")),
    "f": ("finished", ("group", "type", "status")),
    "y": ("retries", ("group", "type")),
    "l": ("leases_expired", ("group", "type")),
}
_HISTOGRAMS: Final = {"w": ("wait", ("group",)), "r": ("run", ("group", "type")), "d": ("lateness", ("group",))}


@dataclass(slots=True)
class Histogram:
    """Durations by bucket: `counts[i]` are at most `BUCKETS_S[i]` and above the bound before; the last is above all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """All counts since the store began: name → labels → number, and name → labels → durations."""

    counters: Mapping[str, Mapping[tuple[str, ...], int]]
    histograms: Mapping[str, Mapping[tuple[str, ...], Histogram]]


@dataclass(frozen=True, slots=True)
class GroupState:
    """The present state of a group. `age_s` is how long its next task has waited, 0 if none waits."""

    waiting: int
    running: int
    age_s: float
    #: Waiting tasks that none of the group's workers can take.
    unserved: int
    paused: bool
    #: Most tasks that may run at once across all workers; None means: any number.
    max_running: int | None


@dataclass(frozen=True, slots=True)
class PlatformState:
    """The present state of the platform."""

    groups: Mapping[str, GroupState]
    delayed: int
    workers: Mapping[str, int]
    #: How many groups are known.
    known_groups: int


#: Labels of each counter and histogram, by its name.
LABELS: Final = dict([*_COUNTERS.values(), *_HISTOGRAMS.values()])


async def read_counts(store: TaskStore) -> StoreCounts:
    """Return the counts; one round trip."""
    (fields,) = await store.read(("HGETALL", keys.COUNTS))
    return counts_of(fields)


def counts_of(fields: Mapping[str, str]) -> StoreCounts:
    """Return the hash's fields as counts; fields of a later version are ignored."""
    counters: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)
    histograms: dict[str, dict[tuple[str, ...], Histogram]] = defaultdict(lambda: defaultdict(Histogram))
    for name, number in fields.items():
        short, *labels = name.split(SEPARATOR)
        if short in _COUNTERS and len(labels) == len(_COUNTERS[short][1]):
            counters[_COUNTERS[short][0]][tuple(labels)] = int(number)
        elif short[:1] in _HISTOGRAMS and len(labels) == len(_HISTOGRAMS[short[:1]][1]):
            histogram = histograms[_HISTOGRAMS[short[:1]][0]][tuple(labels)]
            if short[1:] == "s":
                histogram.sum_s = int(number) / 1000
            elif short[1:].isdigit() and int(short[1:]) <= len(BUCKETS_S):
                histogram.counts[int(short[1:])] = int(number)
    return StoreCounts(counters, histograms)


#: At most this many of the groups without figures of their own are looked at.
_OTHERS_READ: Final = 1000


@dataclass(frozen=True, slots=True)
class Labels:
    """The groups and types that metrics name; all others are `other`."""

    groups: frozenset[str]
    types: frozenset[str]

    def of(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels of a count: group, type, status, as far as it has them."""
        group, *rest = labels
        if rest:
            rest[0] = rest[0] if rest[0] in self.types else OTHER
        return (group if group in self.groups else OTHER, *rest)


async def read_labels(store: TaskStore, *, types: Iterable[str] = ()) -> Labels:
    """Return what metrics name: a bounded number of names that callers cannot make up.

    Groups that are configured, that an operator paused, limited or starts workers for, and those of announced types;
    the types that workers announced, and the further `types`.
    """
    paused, rules = await store.read(("HKEYS", keys.PAUSED), ("HGETALL", keys.RULES))
    announced = await store.task_types()
    workers = [worker for worker in await store.workers() if worker.kind == "celery" and not worker.follows]
    configured = {"default", store.settings.notifications.group, *store.settings.queues.groups}
    further = {*paused, *limits_of_groups(rules), *(name for worker in workers for name in worker.groups)}
    further.update(str(facts.get("group")) for facts in announced.values())
    groups = [*sorted(configured), *sorted(further - configured)]
    return Labels(frozenset(groups[:MAX_NAMED]), frozenset(sorted({*types, *announced})[:MAX_NAMED]))


def merged(counts: StoreCounts, labels: Labels) -> StoreCounts:
    """Return the counts with everything that has no label of its own as `other`."""
    counters: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    histograms: dict[str, dict[tuple[str, ...], Histogram]] = defaultdict(lambda: defaultdict(Histogram))
    for what, numbers in counts.counters.items():
        for names, number in numbers.items():
            counters[what][labels.of(names)] += number
    for what, durations in counts.histograms.items():
        for names, one in durations.items():
            into = histograms[what][labels.of(names)]
            into.sum_s += one.sum_s
            into.counts = [a + b for a, b in zip(into.counts, one.counts, strict=True)]
    return StoreCounts(counters, histograms)


async def read_state(store: TaskStore, labels: Labels | None = None) -> PlatformState:
    """Return the state of all groups and workers, in a few round trips however many there are.

    With `labels`, the groups without a label are together `other`, as far as they are among the first thousand.
    """
    had_tasks, paused, rules, notes = await store.read(
        ("SMEMBERS", keys.GROUPS), ("HKEYS", keys.PAUSED), ("HGETALL", keys.RULES), OWNERS_COMMAND
    )
    limits = limits_of_groups(rules)
    names = sorted({*had_tasks, *paused, *limits})
    if labels is not None:
        others = [name for name in names if name not in labels.groups]
        names = [*(name for name in names if name in labels.groups), *others[:_OTHERS_READ]]
    commands: list[tuple[Any, ...]] = [("TIME",), ("ZCARD", keys.DELAYED), ("SCARD", keys.GROUPS)]
    for name in names:
        for index in (keys.waiting(name), keys.remote(name), keys.remote_parked(name)):
            commands += [("ZCARD", index), ("ZRANGE", index, 0, 0)]
        commands.append(("ZCARD", keys.running(name)))
    (seconds, micros), delayed, known, *facts = await store.read(*commands)
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    workers, owners = await store.workers(), owners_from(notes, now_ms)
    of_group = [facts[i : i + 7] for i in range(0, len(facts), 7)]
    first = [[*celery, *remote, *parked] for _, celery, _, remote, _, parked, _ in of_group]
    ages = await _ages(store, first, now_ms)
    groups: dict[str, GroupState] = {}
    for i, (name, (celery, _, remote, _, parked, _, running)) in enumerate(zip(names, of_group, strict=True)):
        state = GroupState(
            waiting=celery + remote + parked,
            running=running,
            age_s=ages[i],
            unserved=store.unserved(name, celery, remote + parked, serving(name, workers, owners)),
            paused=name in paused,
            max_running=limits[name].max_running if name in limits else None,
        )
        shown = name if labels is None or name in labels.groups else OTHER
        groups[shown] = state if shown not in groups else _together(groups[shown], state)
    kinds = dict(Counter(worker.kind for worker in workers))
    return PlatformState(groups, int(delayed), kinds, int(known))


def _together(one: GroupState, other: GroupState) -> GroupState:
    return GroupState(
        waiting=one.waiting + other.waiting,
        running=one.running + other.running,
        age_s=max(one.age_s, other.age_s),
        unserved=one.unserved + other.unserved,
        paused=one.paused and other.paused,
        max_running=None,
    )


async def _ages(store: TaskStore, first: Sequence[Sequence[str]], now_ms: int) -> list[float]:
    """Return for each group how long the task that has waited longest among its first ones has waited (seconds)."""
    ids = [task_id for of_group in first for task_id in of_group]
    found = await store.read_records(*(("HMGET", keys.task(task_id), "pending_ms", "life") for task_id in ids))
    since = (field_of("pending_ms", *reply) for reply in found)
    waited_s = {
        task_id: max(0, now_ms - int(ms)) / 1000 for task_id, ms in zip(ids, since, strict=True) if ms is not None
    }
    return [max((waited_s.get(task_id, 0.0) for task_id in of_group), default=0.0) for of_group in first]
