"""Health checks happen on their interval, once for all who ask, and only while a service is used."""

from __future__ import annotations

import asyncio

import pytest

from celeriac.errors import TaskError
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, play, recorder_of
from tests.kit.waiting import PATIENCE_S, eventually

ANSWER = play({"result": {}})


async def checks(executor: ExecutorProcess) -> int:
    return int((await executor.seen())["health_checks"])


async def test_tasks_that_start_together_share_one_check_and_later_ones_use_its_verdict() -> None:
    async with ExecutorProcess() as executor:
        await executor.ask("health", status=1, delay_s=0.3)
        handler = handler_of(executor.settings(health_check_interval="1m"))
        await asyncio.gather(*(handler(ANSWER, make_context()) for _ in range(50)))
        await handler(ANSWER, make_context())
        assert await checks(executor) == 1
        await handler.close()


async def test_a_verdict_older_than_the_interval_is_renewed_before_the_next_task_starts() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings(health_check_interval="300ms"))
        await handler(ANSWER, make_context())
        await executor.ask("health", status=2)

        async def refused() -> bool:
            try:
                await handler(ANSWER, make_context())
            except TaskError as failure:
                return failure.code == "service_unhealthy"
            return False

        await eventually(refused, because="the interval has passed", timeout_s=3)
        await handler.close()


async def test_an_executor_in_use_is_checked_on_the_interval_and_an_idle_one_is_left_alone() -> None:
    async with ExecutorProcess() as executor:
        handler = handler_of(executor.settings(health_check_interval="100ms"))
        ctx = make_context()
        stream = asyncio.create_task(handler(play({"progress": {"percentage": 1}}, {"hang": True}), ctx))
        await eventually(lambda: recorder_of(ctx).reports, because="the stream runs")

        async def renewed() -> bool:
            return await checks(executor) >= 5

        await eventually(renewed, because="a running call keeps the verdict fresh")
        stream.cancel()
        await asyncio.wait([stream])
        last, same = -1, 0
        async with asyncio.timeout(PATIENCE_S):
            while same < 5:  # half a second, five intervals, without a check
                await asyncio.sleep(0.1)
                now = await checks(executor)
                last, same = now, same + 1 if now == last else 0
        await handler.close()


async def test_an_executor_that_does_not_answer_its_check_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    from celeriac_tasks.grpc_task import service

    monkeypatch.setattr(service, "HEALTH_TIMEOUT_S", 0.3)
    async with ExecutorProcess() as executor:
        await executor.ask("health", status=1, delay_s=60)
        handler = handler_of(executor.settings())
        with pytest.raises(TaskError, match="deadline_exceeded") as failed:
            await handler(ANSWER, make_context())
        assert failed.value.code == "service_unhealthy"
        await handler.close()
