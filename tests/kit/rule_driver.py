"""Random work under overlapping rules on a real store, and what must hold after each step of it.

It knows no model of the store's answers: what must hold is computed anew from the records after each step.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from celeriac.errors import IllegalTransitionError
from celeriac.limits.rules import By, LimitRule, StartRate, group_rule
from celeriac.model import Amendment, Claim, Delivery, Failure, Submission, WaitForSignal, WaitUntil
from celeriac.store import keys
from celeriac.store.life import field_of
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import FINAL, Client, take_message
from tests.kit.remote.claims import claim_next

GROUPS = ("g", "h")
TYPES = ("x", "y")
KEYS = ("k1", "k2", "k3", None)
USERS = ("u1", "u2", None)
#: Tasks that have not ended, at most.
MOST = 24
FAR_MS = 4_000_000_000_000
#: The rules of a run, each in the ways in which it may be set; at most these four cover a task.
RULES: dict[str, tuple[LimitRule, ...]] = {
    group_rule("g"): tuple(
        LimitRule(group_rule("g"), group="g", max_running=most, rate=rate)
        for most, rate in [(4, None), (2, None), (1, None), (3, StartRate.parse("40/s"))]
    ),
    "fair": (
        LimitRule("fair", group="g", by=By.KEY, fair=True, max_running=2),
        LimitRule("fair", group="g", by=By.KEY, fair=True),
        LimitRule("fair", group="g", by=By.KEY, fair=True, max_running=1, rate=StartRate.parse("20/s")),
        LimitRule("fair", group="g", by=By.USER, fair=True, max_running=2),
    ),
    "of-type": (
        LimitRule("of-type", type="x", by=By.USER, max_running=2),
        LimitRule("of-type", type="x", by=By.ALL, max_running=3),
        LimitRule("of-type", type="x", by=By.USER, max_running=1, rate=StartRate.parse("20/s")),
    ),
    "order": (
        LimitRule("order", type="x", by=By.KEY, ordered=True),
        LimitRule("order", group="g", by=By.KEY, ordered=True),
        LimitRule("order", group="g", by=By.KEY, max_running=2),
        LimitRule("order", group="g", type="y", by=By.KEY, ordered=True, rate=StartRate.parse("30/s")),
        LimitRule("order", group="g", by=By.USER, ordered=True, max_running=3),
    ),
}
#: All that is looked at, in one call and so of one moment.
_LOOK = """
local found = {tasks = {}, sets = {}}
for i, id in ipairs(cjson.decode(ARGV[1])) do
  found.tasks[id] = redis.call('HMGET', 'task:' .. id, 'status', 'queue', 'type', 'key', 'user_id', 'delivery',
    'priority', 'hints', 'parked', 'attempt', 'life')
end
for i, name in ipairs(cjson.decode(ARGV[2])) do found.sets[name] = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES') end
found.paused = redis.call('HKEYS', KEYS[1])
found.resuming = redis.call('HKEYS', KEYS[2])
local time = redis.call('TIME')
found.now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
return cjson.encode(found)
"""
_FIELDS = ("status", "queue", "type", "key", "user_id", "delivery", "priority", "hints", "parked", "attempt", "life")


@dataclass
class Known:
    """What only the driver knows of a task."""

    #: The order in which it came, and the step in which it did.
    arrival: int
    since: int
    #: Whether it has started and neither ended nor been suspended.
    begun: bool = False
    #: The step in which its last attempt failed.
    failed: int = 0


@dataclass
class Seen:
    """The store at one moment."""

    tasks: dict[str, dict[str, Any]]
    sets: dict[str, dict[str, float]]
    #: Groups that are paused, or through which a resumption goes: what waits there may still lack a message.
    unsettled: set[str]
    now_ms: int

    def having(self, *statuses: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the tasks of these statuses."""
        return ((task_id, t) for task_id, t in self.tasks.items() if t["status"] in statuses)

    def starting(self, name: str, prefix: str) -> list[str]:
        """Return the members of a set that begin with this."""
        return [member for member in self.sets[name] if member.startswith(prefix)]


class RuleDriver:
    """One run, from an empty store to the end of all tasks. The same `seed` takes the same decisions."""

    def __init__(self, store: TaskStore, client: Client, seed: int) -> None:
        self.store, self.client = store, client
        self.chance = random.Random(seed)
        self.remote = RemoteTasks(store, f"gateway-{seed}")
        self.rules: dict[str, LimitRule] = {}
        #: The step in which each rule was last set, and what ran over its limit then: it may go on.
        self.set_at: dict[str, int] = {}
        self.allowed: dict[str, Counter[str]] = defaultdict(Counter)
        self.known: dict[str, Known] = {}
        self.claims: dict[str, Claim] = {}
        self.steps = self.arrivals = self.fronts = 0
        self.done: Counter[str] = Counter()
        self.seen = Seen({}, {}, set(), 0)

    # --- what must hold

    def covers(self, t: dict[str, Any]) -> Iterator[tuple[LimitRule, str]]:
        """Yield the rules that cover a task, each with the task's bucket."""
        for rule in self.rules.values():
            if rule.group in (None, t["queue"]) and rule.type in (None, t["type"]):
                bucket = {By.ALL: "", By.KEY: t["key"], By.USER: t["user_id"]}[rule.by]
                if bucket is not None:
                    yield rule, bucket

    def look(self) -> Seen:
        """Read the store."""
        sets = [keys.LIMITS_DUE, keys.CLOSED, keys.parked("")]
        for group in GROUPS:
            sets += [keys.waiting(group), keys.running(group), keys.remote(group), keys.remote_parked(group)]
        for name in RULES:
            sets += [key(name) for key in (keys.permits, keys.parked, keys.out, keys.queued, keys.arrivals)]
            sets.append(keys.holders(name))
        text = self.client.eval(_LOOK, 2, keys.PAUSED, keys.RESUMING, json.dumps(list(self.known)), json.dumps(sets))
        found = json.loads(text)
        tasks = {
            task_id: {name: value if value is not False else None for name, value in zip(_FIELDS, values, strict=True)}
            for task_id, values in dict(found["tasks"]).items()
        }
        for t in tasks.values():
            t |= {name: field_of(name, t[name], t["life"]) for name in ("hints", "attempt")}
        # An empty array is an empty object where it comes from.
        flat = {name: list(pairs) for name, pairs in found["sets"].items()}
        members = {name: dict(zip(one[::2], map(float, one[1::2]), strict=True)) for name, one in flat.items()}
        return Seen(tasks, members, {*found["paused"], *found["resuming"]}, found["now_ms"])

    def check(self) -> None:
        """Assert all that must hold between two steps."""
        seen = self.seen = self.look()
        for task_id, t in seen.having(*FINAL):
            self.known.pop(task_id, None)
            self.claims.pop(task_id, None)
            t["gone"] = True
        running = {rule.name: Counter[str]() for rule in self.rules.values()}
        permits: dict[str, set[str]] = defaultdict(set)
        queued: dict[str, set[str]] = defaultdict(set)
        for task_id, t in seen.having("PROCESSING", "PENDING", "RETRYING"):
            for rule, bucket in self.covers(t):
                if t["status"] == "PROCESSING":
                    running[rule.name][bucket] += 1
                    permits[rule.name].add(f"{bucket}\n{task_id}")
                elif t["status"] == "RETRYING" and self.known[task_id].failed <= self.set_at[rule.name]:
                    # The rule sees it when it comes to wait.
                    pass
                elif t["queue"] not in seen.unsettled:
                    queued[rule.name].add(f"{bucket}\n{task_id}")
        for group in GROUPS:
            assert set(seen.sets[keys.running(group)]) == {
                i for i, t in seen.having("PROCESSING") if t["queue"] == group
            }
        for rule in self.rules.values():
            if not _whole(rule):
                assert set(seen.sets[keys.permits(rule.name)]) == permits[rule.name], (
                    f"permits of {rule.name} are its claims"
                )
                noted = set(seen.sets[keys.queued(rule.name)])
                assert queued[rule.name] <= noted, f"all that waits under {rule.name} counts"
                for member in noted - queued[rule.name]:
                    assert self._is_of(rule, member, "PENDING", "RETRYING"), f"{member!r} waits under {rule}"
            for member in seen.sets[keys.holders(rule.name)]:
                assert self._is_of(rule, member, "PENDING", "RETRYING", "PROCESSING", "SCHEDULED"), (
                    f"a turn: {member!r}"
                )
            allowed = self.allowed[rule.name]
            for bucket, number in running[rule.name].items():
                most = 1 if rule.ordered else rule.max_running
                if most is not None:
                    allowed[bucket] = max(most, min(allowed[bucket], number))
                    assert number <= allowed[bucket], f"{number} of {bucket!r} run under {rule}"
        self._check_waiting(seen, running)

    def _is_of(self, rule: LimitRule, member: str, *statuses: str) -> bool:
        """Return whether a member of one of a rule's sets is a task that the rule covers, of one of these statuses."""
        bucket, task_id = member.split("\n")
        t = self.seen.tasks.get(task_id)
        return t is not None and t["status"] in statuses and (rule, bucket) in self.covers(t)

    def _check_waiting(self, seen: Seen, running: dict[str, Counter[str]]) -> None:
        parked = {member: name for name in ("", *RULES) for member in seen.sets[keys.parked(name)]}
        for group in GROUPS:
            for place in (keys.waiting(group), keys.remote(group), keys.remote_parked(group)):
                gone = [i for i in seen.sets[place] if seen.tasks.get(i, {}).get("status") != "PENDING"]
                assert not gone, f"{gone} do not wait and are in {place}"
            twice = seen.sets[keys.remote(group)].keys() & seen.sets[keys.remote_parked(group)].keys()
            assert not twice, f"{twice} are held and not held"
        for task_id, t in seen.having("PENDING"):
            name, _, member = (t["parked"] or "").partition("\n")
            held = bool(member) and member in seen.sets[keys.parked(name)]
            remote = t["delivery"] == "remote"
            if held:
                parked.pop(member, None)
            place = keys.waiting if not remote else keys.remote_parked if held else keys.remote
            if t["queue"] in seen.unsettled:
                continue
            assert task_id in seen.sets[place(t["queue"])], f"{task_id} waits where its executor looks: {t}"
            assert held or remote or int(t["hints"] or 0) > 0, f"{task_id} is held by no rule and has no message"
            if held:
                assert self._blocks(seen, name, member, t, running), f"{name} has room and holds {member!r} back: {t}"
        assert not parked, f"nothing else is parked: {parked}"
        for rule in self.rules.values():
            lanes = Counter[str]()
            for member in seen.sets[keys.out(rule.name)]:
                lane, _, task_id = member.rpartition("\n")
                lanes[lane] += 1
                assert seen.tasks.get(task_id, {}).get("status") == "PENDING", f"{member!r} is out under {rule.name}"
            if rule.fair and not rule.ordered:
                assert not lanes or max(lanes.values()) == 1, f"one task of a key is out under {rule.name}: {lanes}"

    def _blocks(self, seen: Seen, name: str, member: str, t: dict[str, Any], running: dict[str, Counter[str]]) -> bool:
        """Return whether the rule that holds a task back has a reason to."""
        bucket, task_id = member.split("\n", 1)[0], member.rpartition("\n")[2]
        due = f"{name}\n{bucket}" in seen.sets[keys.LIMITS_DUE]
        if name == "":
            return due
        if name not in self.rules:
            return False
        rule = self.rules[name]
        # Those of the bucket that went on to wait for all of the group, where the next one waits for them.
        moved = sum(
            (rule, bucket) in self.covers(one) and _is_of_all(self.rules, one["parked"]) and one["queue"] == t["queue"]
            for _, one in seen.having("PENDING")
            if one["parked"]
        )
        kind = "r" if t["delivery"] == "remote" else "c"
        out = keys.out(name)
        if rule.ordered:
            holders = seen.starting(keys.holders(name), bucket + "\n")
            first = (holders or sorted(seen.starting(keys.arrivals(name), bucket + "\n")) or [task_id])[0]
            if not first.endswith("\n" + task_id):
                return True
            ahead = seen.starting(out, f"{bucket}\n\n")
        elif rule.fair:
            step = (9 - int(t["priority"] or 0)) // 3 * 3
            if moved or seen.starting(out, f"{bucket}\n{kind}\n{step}\n"):
                return True
            ahead = seen.starting(out, f"{bucket}\n{kind}\n")
        else:
            ahead = seen.starting(out, f"{bucket}\n{t['queue']}\n{kind}\n")
        if rule.max_running is not None and running[name][bucket] + len(ahead) + moved >= rule.max_running:
            return True
        return rule.rate is not None and (due or bool(ahead) or moved > 0)

    # --- steps

    async def run(self, steps: int) -> None:
        """Take so many random steps, and let all end."""
        for name in RULES:
            await self._edit(name, 20)
        acts: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            *((20, self.submit), (24, self.deliver), (14, self.claim_remote), (14, self.complete), (5, self.fail)),
            *((3, self.release), (2, self.rate_limited), (4, self.suspend), (6, self.cancel), (5, self.lease_ends)),
            *((3, self.expire), (8, self.promote), (1, self.pause), (3, self.resume), (2, self.edit), (1, self.unset)),
            *((3, self.amend), (2, self.claim_any), (1, self.lose_a_message), (2, self.sweep), (3, self.retry)),
        ]
        weights = [weight for weight, _ in acts]
        for _ in range(steps):
            (_, act), self.steps = self.chance.choices(acts, weights)[0], self.steps + 1
            self.done[act.__name__] += 1
            try:
                await act()
                self.check()
            except AssertionError as problem:
                problem.add_note(f"step {self.steps}: {act.__name__}")
                raise
        await self.end()

    async def end(self) -> None:
        """Let all that waits run; assert that it ends."""
        for _ in range(400):
            for group in GROUPS:
                await self.store.resume(group)
            await self.store.carry_on()
            for name in (keys.LIMITS_DUE, *map(keys.rates, self.rules)):
                for member in self.client.zrangebyscore(name, 1, "+inf"):
                    self.client.zadd(name, {member: 1})
            self._make_due(self.client.zrange(keys.DELAYED, 0, -1))
            await self.store.promote()
            for task_id, _ in self.seen.having("WAITING"):
                await self._signal(task_id)
            for task_id, claim in list(self.claims.items()):
                await self.store.complete(claim, "1")
                del self.claims[task_id]
            for group in GROUPS:
                while await self._deliver(group):
                    pass
                await self._claim_remote(group, 5)
            if not self.seen.tasks and not self.known:
                break
            for task_id, _ in self.seen.having("PENDING"):
                self.client.hset(keys.task(task_id), "hinted_ms", 1)
            for group in GROUPS:
                await self.store.sweep(group)
            self.check()
        assert not self.known, f"these never end: { {i: self.seen.tasks[i] for i in self.known} }"
        for name in self.rules:
            for key in (keys.permits, keys.parked, keys.out, keys.queued, keys.arrivals, keys.holders):
                assert not self.client.exists(key(name)), f"nothing is left in {key(name)}"

    def _pick(self, *statuses: str) -> str | None:
        found = [task_id for task_id, _ in self.seen.having(*statuses) if task_id in self.known]
        return self.chance.choice(found) if found else None

    def _claim_of(self) -> Claim | None:
        found = [task_id for task_id, _ in self.seen.having("PROCESSING") if task_id in self.claims]
        return self.claims.pop(self.chance.choice(found)) if found else None

    def _comes(self, task_id: str) -> None:
        self.arrivals += 1
        self.known[task_id] = Known(self.arrivals, self.steps)

    async def submit(self) -> None:
        """Submit a task or a few at once."""
        if len(self.known) >= MOST:
            return
        chance, calls = self.chance, []
        for _ in range(chance.choice((1, 1, 1, 3))):
            task_id = f"t{self.arrivals + 1}"
            self._comes(task_id)
            calls.append(
                self.store.submit(
                    Submission(
                        task_id=task_id,
                        type=chance.choice(TYPES),
                        group="g" if chance.random() < 0.8 else "h",
                        key=chance.choice(KEYS),
                        user_id=chance.choice(USERS),
                        priority=chance.choice((0, 0, 1, 9)),
                        cost=chance.choice((None, None, 3)),
                        max_retries=chance.choice((0, 2)),
                        delay_ms=3_600_000 if chance.random() < 0.1 else None,
                        expires_in_ms=7_200_000 if chance.random() < 0.3 else None,
                        delivery=Delivery.REMOTE if chance.random() < 0.35 else Delivery.CELERY,
                    )
                )
            )
        await asyncio.gather(*calls)

    def _granted(self, claim: Claim) -> None:
        """Note a claim, which had to be its turn."""
        seen, known = self.look(), self.known[claim.task_id]
        for rule, bucket in self.covers(seen.tasks[claim.task_id]):
            since = self.set_at[rule.name]
            if not rule.ordered or known.since <= since:
                continue
            for other, t in seen.having("PENDING", "RETRYING", "PROCESSING", "SCHEDULED"):
                one = self.known[other]
                if other == claim.task_id or one.since <= since or (rule, bucket) not in self.covers(t):
                    continue
                assert not one.begun, f"{claim.task_id} starts while {other} has the turn of {bucket!r} under {rule}"
                if not known.begun and t["status"] == "PENDING":
                    assert one.arrival > known.arrival, f"{claim.task_id} starts before {other}: {bucket!r} of {rule}"
        known.begun = True
        self.claims[claim.task_id] = claim

    async def _deliver(self, group: str) -> bool:
        message = take_message(self.client, group)
        if message is not None:
            await self._claim(message["headers"]["id"])
        return message is not None

    async def _claim(self, task_id: str) -> None:
        answer = await self.store.claim(task_id, worker="w")
        if isinstance(answer, Claim):
            self._granted(answer)

    async def deliver(self) -> None:
        """A worker takes the next message."""
        await self._deliver(self.chance.choice(GROUPS))

    async def claim_any(self) -> None:
        """A message comes that is not the next one, or comes twice."""
        if task_id := self._pick("PENDING", "PROCESSING"):
            await self._claim(task_id)

    async def claim_remote(self) -> None:
        """Remote workers ask for tasks."""
        await self._claim_remote(self.chance.choice(GROUPS), self.chance.randint(1, 3))

    async def _claim_remote(self, group: str, workers: int) -> None:
        for grant in (await claim_next(self.remote, group, [f"w{n}" for n in range(workers)])).granted:
            self._granted(grant.claim)

    async def complete(self) -> None:
        """An attempt ends well."""
        if claim := self._claim_of():
            await self.store.complete(claim, "1")

    async def fail(self) -> None:
        """An attempt fails; another one may follow, at once or later."""
        if claim := self._claim_of():
            self.known[claim.task_id].failed = self.steps
            retryable = self.chance.random() < 0.8
            await self.store.fail(claim, Failure("x", "x", retryable), self.chance.choice((0, 3_600_000)))

    async def release(self) -> None:
        """A worker that stops gives its task back."""
        if claim := self._claim_of():
            await self.store.release(claim)

    async def rate_limited(self) -> None:
        """Somebody else's service tells a task to wait."""
        if claim := self._claim_of():
            await self.store.rate_limited(claim, self.chance.choice((0.001, 0.05)))

    async def suspend(self) -> None:
        """An attempt waits for a time, or for a signal that comes."""
        if claim := self._claim_of():
            wait = WaitUntil("s", FAR_MS) if self.chance.random() < 0.5 else WaitForSignal("s")
            if await self.store.suspend(claim, [wait]) is None:
                # The signal has come before.
                self.claims[claim.task_id] = claim
                return
            known = self.known[claim.task_id]
            self.fronts -= 1
            known.begun, known.arrival, known.since = False, self.fronts, self.steps

    async def cancel(self) -> None:
        """Somebody cancels a task."""
        if task_id := self._pick("PENDING", "PROCESSING", "RETRYING", "SCHEDULED", "WAITING"):
            await self.store.cancel(task_id, running=self.chance.choice(("", "at_once", "spare")))

    async def lease_ends(self) -> None:
        """A worker dies: with its lease, by what its supervisor says, or by its closed connection."""
        if claim := self._claim_of():
            match self.chance.randint(0, 2):
                case 0:
                    self.client.zadd(keys.LEASES, {claim.task_id: 1})
                    await self.store.reap()
                case 1:
                    await self.store.lose(claim.task_id, worker="w", code="x", message="x", again=True)
                    self.client.zadd(keys.LEASES, {claim.task_id: 1}, xx=True)
                    await self.store.reap()
                case _:
                    await self.remote.abandon(claim)

    async def expire(self) -> None:
        """A task that waits has waited too long."""
        task_id = self._pick("PENDING", "SCHEDULED")
        if task_id is not None and self.client.zadd(keys.EXPIRING, {task_id: 1}, xx=True, ch=True):
            self.client.hset(keys.task(task_id), "expires_ms", "1")
            if self.chance.random() < 0.5:
                await self.store.reap()

    async def promote(self) -> None:
        """Time passes: for some of what waits for a time, or for rates and closed keys."""
        delayed = self.client.zrange(keys.DELAYED, 0, -1)
        self._make_due(self.chance.sample(delayed, min(len(delayed), 2)))
        for task_id, _ in list(self.seen.having("WAITING")):
            if self.chance.random() < 0.5:
                await self._signal(task_id)
        await self.store.promote()

    async def _signal(self, task_id: str) -> None:
        if self.client.hexists(keys.open_conditions(task_id), "signal:s"):
            await self.store.signal(task_id, "s", "1")

    def _make_due(self, ids: list[str]) -> None:
        # In this order, also for the store: of those that are due at the same moment it takes the lower id first.
        for place, task_id in enumerate(ids, 1):
            if self.client.hget(keys.task(task_id), "status") == "WAITING":
                self.client.hset(keys.open_conditions(task_id), "sleep:s", "1")
            self.client.zadd(keys.DELAYED, {task_id: place})
            self._again(task_id)

    def _again(self, task_id: str) -> None:
        """One that comes to wait for the first time has come now."""
        known = self.known.get(task_id)
        if known is not None and not known.begun and known.arrival > 0:
            self._comes(task_id)

    async def pause(self) -> None:
        """An operator pauses a group."""
        await self.store.pause(self.chance.choice(GROUPS))

    async def resume(self) -> None:
        """An operator resumes a group, and perhaps dies over it."""
        await self.store.resume(self.chance.choice(GROUPS), steps=self.chance.choice((1, 20)))
        if self.chance.random() < 0.7:
            await self.store.carry_on()

    async def edit(self) -> None:
        """An operator sets a rule."""
        await self._edit(self.chance.choice(list(RULES)), self.chance.choice((1, 20)))

    async def _edit(self, name: str, steps: int) -> None:
        rule = self.chance.choice(RULES[name])
        self._grandfather(name)
        self.rules[name], self.set_at[name] = rule, self.steps
        await self.store.set_rule(rule, steps=steps)

    def _grandfather(self, name: str) -> None:
        self.allowed[name] = Counter({bucket: 10**6 for bucket in (*KEYS, *USERS, "") if bucket is not None})

    async def unset(self) -> None:
        """An operator removes a rule."""
        name = self.chance.choice(list(RULES))
        self.rules.pop(name, None)
        await self.store.remove_rule(name, steps=self.chance.choice((1, 20)))

    async def amend(self) -> None:
        """A running attempt moves its task to the other group."""
        found = [task_id for task_id, _ in self.seen.having("PROCESSING") if task_id in self.claims]
        if found:
            claim = self.claims[self.chance.choice(found)]
            t = self.seen.tasks[claim.task_id]
            group = GROUPS[1 - GROUPS.index(t["queue"])]
            call = Submission(
                task_id=claim.task_id,
                type=t["type"],
                group=group,
                delivery=Delivery(t["delivery"] or ""),
                max_retries=2,
            )
            # It goes on in the other group, also where that is full.
            for name in self.rules:
                self._grandfather(name)
            self.known[claim.task_id].since = 0
            await self.store.amend(claim, Amendment(call, claim.attempt + 2))

    async def lose_a_message(self) -> None:
        """A worker dies with a message before it claims the task."""
        take_message(self.client, self.chance.choice(GROUPS))

    async def sweep(self) -> None:
        """A sweeper looks for lost messages after the grace."""
        group = self.chance.choice(GROUPS)
        for task_id, _ in self.seen.having("PENDING"):
            self.client.hset(keys.task(task_id), "hinted_ms", 1)
        await self.store.sweep(group)

    async def retry(self) -> None:
        """Somebody runs an ended task again."""
        task_id = f"t{self.chance.randint(1, max(self.arrivals, 1))}"
        if task_id not in self.known and self.client.hget(keys.task(task_id), "status") in ("FAILED", "CANCELLED"):
            try:
                await self.store.retry(task_id)
            except IllegalTransitionError:
                return
            self._comes(task_id)


def _is_of_all(rules: dict[str, LimitRule], parked: str) -> bool:
    """Return whether what holds a task back holds all of a group back."""
    name, bucket, *_ = parked.split("\n")
    return bucket.endswith("\x1f") if name == "" else name in rules and _whole(rules[name])


def _whole(rule: LimitRule) -> bool:
    return rule.group is not None and rule.type is None and rule.by is By.ALL
