"""Whatever happens to the tasks of a key: at most one runs, one more waits for it, and no key is stuck."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from celeriac.errors import DuplicateTaskError, IllegalTransitionError, StaleClaimError, TaskNotFoundError
from celeriac.model import Claim, Failure, OnConflict, Status, Submission, UniqueKey, Until
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import records

KEYS = ("a", "b")
DEEDS = ("claim", "claim", "end", "end", "cancel", "retry", "remove", "lose", "back", "time")


class Driver:
    """Does random things to the tasks of two keys, and looks at the invariants after each."""

    def __init__(self, store: TaskStore, look: Any, seed: int) -> None:
        self.store, self.look, self.random = store, look, random.Random(seed)
        self.claims: dict[str, Claim] = {}
        self.made = 0

    def alive(self, key: str) -> dict[str, dict[str, str]]:
        """Return the records of the key's tasks that have not ended."""
        return {
            task_id: record
            for task_id, record in records(self.look).items()
            if record.get("once", "").endswith(f":{key}") and not Status(record["status"]).final
        }

    def check(self) -> None:
        for key in KEYS:
            found = self.alive(key)
            running = [one for one, record in found.items() if record["status"] == "PROCESSING"]
            assert len(running) <= 1, (key, found)
            assert len(found) <= 2, (key, found)
            if len(found) == 2:
                first, second = found
                waiting = [one for one in found if found[one]["status"] == "WAITING"]
                assert len(waiting) == 1, (key, found)
                other = second if waiting == [first] else first
                assert f'["{other}","ended"]' in found[waiting[0]]["depends_on"].replace(" ", ""), (key, found)

    async def submit(self) -> None:
        key, mode = self.random.choice(KEYS), self.random.choice(list(OnConflict))
        before = self.alive(key)
        self.made += 1
        task_id, nonce = f"t{self.made}", f"n{self.made}"
        once = UniqueKey(key, until=Until.ENDED, on_conflict=mode)
        submission = Submission(task_id=task_id, type="demo", max_retries=1, once=once)
        answers = []
        for _ in range(self.random.choice((1, 1, 2))):  # the reply may be lost
            self.store.unique = lambda: nonce  # type: ignore[method-assign]
            try:
                answers.append((await self.store.submit(submission)).task_id)
            except DuplicateTaskError as exc:
                answers.append(f"refused for {exc.task_id}")
            finally:
                del self.store.unique  # type: ignore[method-assign]
        assert len(set(answers)) == 1, answers
        answer = answers[0].removeprefix("refused for ")
        if not before:
            assert answers[0] == task_id, f"{key} is stuck"
        elif mode in (OnConflict.RETURN, OnConflict.REJECT):
            assert answer in before
            # The newest one holds the key if two are there.
            waiting = [one for one, record in before.items() if record["status"] == "WAITING"]
            assert not waiting or answer in waiting
        elif mode is OnConflict.REPLACE:
            assert answer == task_id

    async def step(self) -> None:
        roll = self.random.random()
        if roll < 0.4:
            return await self.submit()
        stored = records(self.look)
        if not stored:
            return None
        task_id = self.random.choice(sorted(stored))
        claim = self.claims.get(task_id)
        with contextlib.suppress(IllegalTransitionError, TaskNotFoundError, DuplicateTaskError):
            match self.random.choice(
                ("claim", "claim", "end", "end", "cancel", "retry", "remove", "lose", "back", "time")
            ):
                case "claim":
                    got = await self.store.claim(task_id, worker="w")
                    if isinstance(got, Claim):
                        self.claims[task_id] = got
                case "end" if claim is not None:
                    await self.end(claim)
                case "back" if claim is not None:
                    await self.leave(self.store.release(claim))
                case "lose" if claim is not None:
                    self.look.zadd(keys.LEASES, {task_id: 1}, xx=True)
                    await self.store.reap()
                case "cancel":
                    await self.store.cancel(task_id, running=self.random.choice(("", "at_once", "spare")))
                case "retry":
                    await self.store.retry(task_id)
                case "remove":
                    await self.store.remove(task_id, user_id="")
                    ended = Status(stored[task_id]["status"]).final
                    if ended and not stored[task_id].get("dependants"):
                        self.look.delete(keys.task(task_id))  # its retention is over
                case "time":
                    for one, _ in self.look.zrange(keys.DELAYED, 0, -1, withscores=True):
                        self.look.zadd(keys.DELAYED, {one: 1})
                    await self.store.promote()
        return None

    async def end(self, claim: Claim) -> None:
        match self.random.choice(("complete", "fail", "try again", "cancelled")):
            case "complete":
                await self.leave(self.store.complete(claim, "1"))
            case "fail":
                await self.leave(self.store.fail(claim, Failure("broken", "it broke", retryable=False), 0))
            case "try again":
                await self.leave(self.store.fail(claim, Failure("broken", "it broke", retryable=True), 60_000))
            case "cancelled":
                await self.leave(self.store.settle_cancelled(claim))

    async def leave(self, call: Any) -> None:
        """Report for a claim that may be another worker's by now."""
        with contextlib.suppress(StaleClaimError):
            await call


@pytest.mark.parametrize("seed", range(6))
async def test_at_most_one_task_of_a_key_runs_and_no_key_is_stuck(store: TaskStore, look: Any, seed: int) -> None:
    driver = Driver(store, look, seed)
    for _ in range(250):
        await driver.step()
        driver.check()
    # All that is left ends, and leaves no key behind.
    for _ in range(20):
        for task_id, record in records(look).items():
            if not Status(record["status"]).final:
                await store.cancel(task_id, running="at_once")
    assert not look.keys("celeriac:once:*")
    for key in KEYS:
        once = UniqueKey(key)
        assert (await store.submit(Submission(task_id=f"last {key}", type="demo", once=once))).created
