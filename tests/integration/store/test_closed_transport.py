"""A connection to the store whose socket is gone, on the event loops that our processes and our clients use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from tests.kit.waiting import eventually

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_on(loop: str, work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(work)


async def reset(connection: Any) -> None:
    """Close the socket of a driver's connection, as a reset by the server does."""
    connection._writer.transport.abort()
    await asyncio.sleep(0)


async def disconnect(connection: Any) -> None:
    """Disconnect, as another coroutine does that failed."""
    await connection.disconnect(nowait=True)


async def ping(connection: Any) -> None:
    await connection.send_command("PING")
    await connection.read_response()


@pytest.mark.parametrize("loop", LOOPS)
def test_the_driver_says_that_the_connection_is_gone(loop: str, valkey_url: str) -> None:
    async def work() -> None:
        async with TaskStore(valkey_url, Settings().store) as store:
            connection = store.redis.connection_pool.make_connection()
            await connection.connect()
            await reset(connection)
            with pytest.raises(RedisConnectionError):
                await ping(connection)
            await connection.connect()
            writing = asyncio.ensure_future(ping(connection))
            await asyncio.sleep(0)  # it has found the connection there, and may not have written
            await disconnect(connection)
            with pytest.raises(RedisConnectionError):
                await writing

    run_on(loop, work())


@pytest.mark.parametrize("broken", [reset, disconnect])
@pytest.mark.parametrize("loop", LOOPS)
def test_listeners_come_and_go_while_connections_break(
    loop: str, broken: Callable[[Any], Coroutine[Any, Any, None]], valkey_url: str
) -> None:
    async def work() -> None:
        async with TaskStore(valkey_url, Settings().store) as store:
            hub = LiveHub(store=store)
            await hub.start()
            ends = [await hub.listen("kept", lambda _: None)]
            for turn in range(20):
                heard: list[str | None] = []
                await eventually(lambda: hub._pubsub.connection and hub._pubsub.connection._writer, because="it is up")
                breaking = asyncio.ensure_future(broken(hub._pubsub.connection))
                # Before the break, while it happens, and after it.
                for channel in ("a", "b", "c"):
                    ends.append(await hub.listen(f"{channel}-{turn}", heard.append))
                ends.pop(0)()
                await breaking
                await asyncio.gather(*hub._ending)
                await eventually(lambda heard=heard: heard.count(None) >= 3, because="all are subscribed")
                await store.redis.publish(f"c-{turn}", "a message")
                await eventually(lambda heard=heard: "a message" in heard, because="messages arrive")
                for end in ends[:-1]:
                    end()
                del ends[:-1]
            await hub.stop()

    run_on(loop, work())
