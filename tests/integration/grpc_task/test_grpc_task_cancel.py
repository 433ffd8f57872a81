"""A call that is stopped: what the executor hears depends on who stopped it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from celeriac.handlers.context import Context
from celeriac_tasks.grpc_task import GrpcTaskHandler, service
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, play, recorder_of
from tests.kit.waiting import PATIENCE_S, eventually


@pytest.fixture
async def handler(executor: ExecutorProcess) -> AsyncIterator[GrpcTaskHandler]:
    handler = handler_of(executor.settings())
    yield handler
    await handler.close()


async def start(handler: GrpcTaskHandler, ctx: Context) -> asyncio.Task[object]:
    """Start a task whose executor never ends it, and wait until it runs there."""
    stream: asyncio.Task[object] = asyncio.create_task(
        handler(play({"progress": {"percentage": 10}}, {"hang": True}), ctx)
    )
    await eventually(lambda: recorder_of(ctx).reports, because="the stream runs")
    return stream


async def wait_until_dropped(executor: ExecutorProcess, ctx: Context) -> None:
    async def dropped() -> bool:
        return ctx.task_id in (await executor.seen())["dropped"]

    await eventually(dropped, because="the stream is cancelled at the executor")


async def test_cancelling_sends_cancel_task_while_it_still_runs_and_then_drops_the_stream(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    ctx = make_context()
    stream = await start(handler, ctx)
    ctx.stop("cancel")
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    await wait_until_dropped(executor, ctx)
    assert (await executor.seen())["cancels"] == [{"task_id": ctx.task_id, "while_running": True}]


async def test_cancel_task_carries_the_service_s_metadata_too() -> None:
    async with ExecutorProcess("--token", "s3cret") as executor:
        handler = handler_of(executor.settings(metadata={"authorization": "Bearer s3cret"}))
        ctx = make_context()
        stream = await start(handler, ctx)
        ctx.stop("cancel")
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream
        await handler.close()
        assert [cancel["task_id"] for cancel in (await executor.seen())["cancels"]] == [ctx.task_id]


@pytest.mark.parametrize("reason", ["lost", "shutdown", "timeout"])
async def test_stopping_for_another_reason_only_drops_the_stream(
    executor: ExecutorProcess, handler: GrpcTaskHandler, reason: str
) -> None:
    ctx = make_context()
    stream = await start(handler, ctx)
    ctx.stop(reason)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    await wait_until_dropped(executor, ctx)
    assert (await executor.seen())["cancels"] == []


async def test_cancelling_ends_within_seconds_at_a_frozen_executor(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    import signal

    ctx = make_context()
    stream = await start(handler, ctx)
    assert executor.process is not None
    executor.process.send_signal(signal.SIGSTOP)
    ctx.stop("cancel")
    stream.cancel()
    done, _ = await asyncio.wait([stream], timeout=30)
    assert done, "CancelTask has a deadline of its own"
    assert stream.cancelled()


async def test_a_second_cancellation_ends_the_waiting_but_not_the_message(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    ctx = make_context()
    stream = await start(handler, ctx)
    ctx.stop("cancel")
    stream.cancel()
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream

    async def told() -> bool:
        return [cancel["task_id"] for cancel in (await executor.seen())["cancels"]] == [ctx.task_id]

    await eventually(told, because="CancelTask is shielded")


async def test_a_task_cancelled_before_its_call_was_made_never_reaches_the_executor(
    executor: ExecutorProcess, handler: GrpcTaskHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HEALTH_TIMEOUT_S", PATIENCE_S)
    await executor.ask("health", status=1, delay_s=PATIENCE_S)
    ctx, other = make_context(), make_context()
    first = asyncio.create_task(handler(play({"result": {"who": "first"}}), ctx))
    second = asyncio.create_task(handler(play({"result": {"who": "second"}}), other))

    async def asked() -> bool:
        return bool((await executor.seen())["health_checks"])

    await eventually(asked, because="the health check is under way")
    ctx.stop("cancel")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await executor.ask("health", status=1)
    assert await second == {"who": "second"}, "the check that the first had begun is everybody's"
    seen = await executor.seen()
    assert [request["task_id"] for request in seen["requests"]] == [other.task_id]
    assert seen["cancels"] == []


async def test_closing_the_handler_lets_cancellations_under_way_arrive(executor: ExecutorProcess) -> None:
    handler = handler_of(executor.settings())
    ctx = make_context()
    stream = await start(handler, ctx)
    ctx.stop("cancel")
    stream.cancel()
    await asyncio.sleep(0)
    stream.cancel()
    await asyncio.wait([stream])
    await handler.close()
    await handler.close()
    assert [cancel["task_id"] for cancel in (await executor.seen())["cancels"]] == [ctx.task_id]
