"""Limits through both Python clients, against the real API: one list of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from celeriac.errors import InvalidSubmissionError, RuleNotFoundError, TooManyRulesError
from celeriac.limits.rules import By, KeyCount, LimitRule, StartRate, group_rule
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.either_client import AnyClient, connected, run
from tests.kit.api.http_serving import claim, serving

ECHO = "http_test.echo"


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url)


@pytest.fixture(params=["blocking", "asyncio"])
async def client(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[AnyClient]:
    async with serving(settings) as url, connected(request.param, url, retries=0) as made:
        yield made


async def test_a_rule_is_set_and_read_as_it_is(client: AnyClient) -> None:
    made = await run(
        client.limits.set,
        "a b:ü",
        group="mail",
        type=ECHO,
        by="key",
        max_running=2,
        rate="100/m",
        fair=True,
        ordered=True,
        max_waiting=9,
        note="as agreed",
    )
    assert made.rule == LimitRule(
        "a b:ü",
        group="mail",
        type=ECHO,
        by=By.KEY,
        max_running=2,
        rate=StartRate(100, 60_000),
        fair=True,
        ordered=True,
        max_waiting=9,
        note="as agreed",
        at=made.rule.at,
    )
    assert await run(client.limits.get, "a b:ü") == made
    replaced = await run(client.limits.set, "a b:ü", type=ECHO, max_running=7)
    assert replaced.rule == LimitRule("a b:ü", type=ECHO, max_running=7, at=replaced.rule.at)
    assert await run(client.limits.list) == [replaced]
    assert await run(client.limits.delete, "a b:ü") is None
    assert await run(client.limits.list) == []


async def test_what_waits_and_runs_is_counted_by_key(client: AnyClient, store: TaskStore) -> None:
    await run(client.limits.set, "customers", group="mail", by="key", max_running=1)
    ids = [(await run(client.submit, ECHO, queue="mail", key=key)).id for key in ("a", "a", "b")]
    await claim(store, ids[2])
    state = await run(client.limits.get, "customers")
    assert (state.waiting, state.running, state.parked) == (2, 1, 1)
    a, b = KeyCount("a", 2, 0), KeyCount("b", 0, 1)
    assert await run(client.limits.keys, "customers") == [a, b]
    assert await run(client.limits.keys, "customers", sort="running", limit=1) == [b]


async def test_the_limits_of_a_group_are_a_rule(client: AnyClient) -> None:
    await run(client.limit_group, "default", max_running=5)
    (state,) = await run(client.limits.list)
    assert (state.rule.name, state.rule.of_group, state.rule.max_running) == (group_rule("default"), True, 5)


async def test_what_cannot_be_is_said(client: AnyClient) -> None:
    with pytest.raises(InvalidSubmissionError, match="give group, type or both"):
        await run(client.limits.set, "x", max_running=1)
    with pytest.raises(InvalidSubmissionError, match="is not a rate"):
        await run(client.limits.set, "x", group="mail", rate="5")
    await run(client.limits.set, "customers", group="mail", max_running=1)
    for ask in (client.limits.get, client.limits.keys, client.limits.delete):
        with pytest.raises(RuleNotFoundError, match="there is no limit 'custmers'; known are: customers"):
            await run(ask, "custmers")
    for n in range(3):
        await run(client.limits.set, f"r{n}", group="mail", max_running=1)
    with pytest.raises(TooManyRulesError, match="at most 4 rules may cover a task, and these would: customers, fifth"):
        await run(client.limits.set, "fifth", group="mail", max_running=1)
