"""Groups through both Python clients, against the real API: one list of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from celeriac.access.principal import Scope
from celeriac.errors import ApiError, GroupNotFoundError, InvalidSubmissionError
from celeriac.limits.rules import StartRate
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.either_client import AnyClient, connected, run
from tests.kit.api.http_serving import serving
from tests.kit.tokens import token_of

ECHO = "http_test.echo"


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "groups": {"a/b c": {}, "pause": {}}})


@pytest.fixture(params=["blocking", "asyncio"])
async def client(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[AnyClient]:
    async with serving(settings) as url, connected(request.param, url, retries=0) as made:
        yield made


async def test_groups_are_read_as_they_are(client: AnyClient, store: TaskStore) -> None:
    await run(client.submit, ECHO, queue="media")
    found = {group.name: group for group in await run(client.groups)}
    assert sorted(found) == ["a/b c", "default", "media", "pause"]
    media = await run(client.group, "media")
    assert media == found["media"] == await store.group("media")
    assert (media.waiting, media.running, media.workers, media.unserved) == (1, 0, 0, 1)
    assert (media.pause, media.limits) == (None, None)


@pytest.mark.parametrize("name", ["default", "a/b c", "pause"])
async def test_a_group_is_paused_and_resumed(client: AnyClient, store: TaskStore, name: str) -> None:
    paused = await run(client.pause_group, name, "the bank is down")
    assert paused.pause == (await store.group(name)).pause
    assert paused.pause.note == "the bank is down"
    assert (await run(client.group, name)).pause == paused.pause
    assert (await run(client.pause_group, name)).pause.note == ""
    for _ in range(2):
        assert (await run(client.resume_group, name)).pause is None
    assert (await store.group(name)).pause is None


async def test_a_group_is_limited_and_limited_no_longer(client: AnyClient, store: TaskStore) -> None:
    limited = await run(client.limit_group, "default", max_running=5, rate="100/m", note="as agreed")
    assert limited.limits == (await store.group("default")).limits
    assert (limited.limits.max_running, limited.limits.rate) == (5, StartRate(100, 60_000))
    assert limited.limits.note == "as agreed"
    replaced = await run(client.limit_group, "default", rate="1/d")
    assert (replaced.limits.max_running, str(replaced.limits.rate)) == (None, "1/d")
    assert (await run(client.unlimit_group, "default")).limits is None
    assert (await store.group("default")).limits is None


async def test_what_is_no_limit_and_no_group_is_said(client: AnyClient) -> None:
    for wrong, said in (({}, "max_running, rate or both"), ({"rate": "5"}, "is not a rate"), ({"max_running": 0}, "1")):
        with pytest.raises(InvalidSubmissionError, match=said):
            await run(client.limit_group, "default", **wrong)
    for ask in (client.group, client.pause_group, client.resume_group, client.unlimit_group):
        with pytest.raises(GroupNotFoundError, match="there is no group 'defualt'"):
            await run(ask, "defualt")


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
async def test_only_an_admin_holds_groups_back(valkey_url: str, store: TaskStore, kind: str) -> None:
    settings = Settings.model_validate({"redis_url": valkey_url, "access": {"jwt_secret": "s" * 40}})
    token = token_of(settings, user_id="7", scopes=[Scope.READ, Scope.SUBMIT])
    async with serving(settings) as url, connected(kind, url, token=token, retries=0) as client:
        assert (await run(client.group, "default")).name == "default"
        with pytest.raises(ApiError, match="scope admin"):
            await run(client.pause_group, "default")
    assert (await store.group("default")).pause is None
