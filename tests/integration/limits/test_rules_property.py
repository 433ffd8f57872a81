"""Random kills, ends, retries and expiries under four overlapping rules: no permit too many, and none is lost."""

from __future__ import annotations

import pytest
import redis as redis_sync

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.rule_driver import RuleDriver

RUNS, STEPS = 40, 250


@pytest.mark.parametrize("part", range(2))
async def test_no_order_of_events_breaks_a_rule_or_holds_a_task_for_ever(
    valkey_url: str, client: redis_sync.Redis, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    # So that much happens while a group is half resumed.
    monkeypatch.setattr("celeriac.store.task_store._RESUMED_AT_ONCE", 3)
    async with TaskStore(valkey_url, Settings(group_retention=0).store) as store:
        for seed in range(part, RUNS, 2):
            client.flushdb()
            driver = RuleDriver(store, client, seed)
            try:
                await driver.run(STEPS)
            except AssertionError as problem:
                problem.add_note(f"seed {seed}")
                raise
