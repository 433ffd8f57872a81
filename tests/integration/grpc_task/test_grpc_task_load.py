"""Many streams at once through one handler in one process."""

from __future__ import annotations

import asyncio
import random
import signal
import threading

import uvloop

from celeriac.tasks.types.grpc_task import GrpcTaskPayload
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, play, recorder_of
from tests.kit.waiting import PATIENCE_S, eventually

STREAMS = 500


async def test_500_streams_run_at_the_same_time_after_one_health_check_and_without_threads_of_their_own() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings())
        contexts = [make_context() for _ in range(STREAMS)]
        payload = GrpcTaskPayload(service="svc", method="wait_for", data={"streams": STREAMS})
        before = threading.active_count()
        # The executor answers none before all are there.
        results = await asyncio.wait_for(asyncio.gather(*(handler(payload, ctx) for ctx in contexts)), 60)
        assert results == [{"gathered": STREAMS}] * STREAMS
        assert all(recorder_of(ctx).percentages == [50] for ctx in contexts)
        assert threading.active_count() - before < 10
        assert (await executor.seen())["health_checks"] == 1
        await handler.close()
        # gRPC's pollers and our own tasks: nothing is left of the streams.
        assert len(asyncio.all_tasks()) < 5


async def test_500_streams_cancelled_at_once_are_all_dropped_and_all_announced() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings())
        contexts = [make_context() for _ in range(STREAMS)]
        script = play({"progress": {"percentage": 1}}, {"hang": True})
        streams = [asyncio.create_task(handler(script, ctx)) for ctx in contexts]
        await eventually(lambda: all(recorder_of(ctx).reports for ctx in contexts), because="all streams run")
        for ctx, stream in zip(contexts, streams, strict=True):
            ctx.stop("cancel")
            stream.cancel()
        await asyncio.wait(streams, timeout=30)
        assert all(stream.cancelled() for stream in streams)
        seen = await executor.seen()
        assert {cancel["task_id"] for cancel in seen["cancels"]} == {ctx.task_id for ctx in contexts}
        await handler.close()


async def test_a_burst_that_a_server_would_throw_away_in_part_is_spread_and_all_of_it_runs() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings())
        script = play({"progress": {"percentage": 1}}, {"result": {}})
        results = await asyncio.gather(*(handler(script, make_context()) for _ in range(3000)))
        assert results == [{}] * 3000
        await handler.close()


async def test_a_burst_that_meets_a_server_which_does_nothing_for_a_while_waits_for_it() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings())
        script = play({"result": {}})
        assert await handler(script, make_context()) == {}
        assert executor.process is not None
        executor.process.send_signal(signal.SIGSTOP)
        burst = asyncio.gather(*(handler(script, make_context()) for _ in range(3000)))
        # Long enough for all of them to be sent, as far as nobody holds them back.
        await asyncio.wait([burst], timeout=2)
        executor.process.send_signal(signal.SIGCONT)
        assert await burst == [{}] * 3000
        await handler.close()


async def test_a_burst_that_meets_a_server_which_is_stopped_again_and_again_is_refused_nothing() -> None:
    """Such a server answers each question at once, while hundreds of earlier calls wait to be accepted."""
    chance = random.Random(7)

    async def stop_and_go(process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0, 0.01))
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGCONT)

    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings())
        script = play({"progress": {"percentage": 1}}, {"result": {}})
        assert await handler(script, make_context()) == {}
        assert executor.process is not None
        stalling = asyncio.create_task(stop_and_go(executor.process))
        results = await asyncio.gather(*(handler(script, make_context()) for _ in range(3000)))
        stalling.cancel()
        executor.process.send_signal(signal.SIGCONT)
        assert results == [{}] * 3000
        await handler.close()


async def test_silent_calls_that_have_been_accepted_hold_nobody_up() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings())
        hanging = [asyncio.create_task(handler(play({"hang": True}), make_context())) for _ in range(600)]
        assert await asyncio.wait_for(handler(play({"result": {}}), make_context()), PATIENCE_S) == {}
        for stream in hanging:
            stream.cancel()
        await asyncio.wait(hanging, timeout=PATIENCE_S)
        await handler.close()


async def test_streams_run_on_a_uvloop_in_a_second_thread_as_workers_have_it() -> None:
    async with ExecutorProcess() as executor:
        settings = executor.settings()

        async def work() -> list[dict[str, object]]:
            handler = handler_of(settings)
            script = play({"progress": {"percentage": 1}}, {"result": {"ok": 1}})
            results = await asyncio.gather(*(handler(script, make_context()) for _ in range(50)))
            await handler.close()
            return results

        def worker() -> list[dict[str, object]]:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(work())

        assert await asyncio.to_thread(worker) == [{"ok": 1}] * 50
