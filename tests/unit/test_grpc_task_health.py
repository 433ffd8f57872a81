"""How long a verdict on an executor is believed, on a clock of our own."""

from __future__ import annotations

import asyncio

import pytest

from celeriac.errors import TaskError
from celeriac_tasks.grpc_task.health import Health


class Probe:
    """Answers with `problem`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.asked = 0
        self.now_s = 1000.0

    async def __call__(self) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        return self.problem

    def health(self, *, interval_s: float = 3600, retry_delay_s: float = 1) -> Health:
        return Health(
            service="svc", probe=self, interval_s=interval_s, retry_delay_s=retry_delay_s, clock=lambda: self.now_s
        )


async def test_a_healthy_verdict_holds_for_the_interval() -> None:
    probe = Probe()
    health = probe.health()
    for later_s, asked in ((0, 1), (3599, 1), (1, 2), (10, 2)):
        probe.now_s += later_s
        await health.require()
        assert probe.asked == asked
    health.forget()
    await health.require()
    assert probe.asked == 3
    await health.close()


async def test_an_unhealthy_verdict_holds_for_half_a_retry_s_delay_and_a_second_at_most() -> None:
    for retry_delay_s, believed_s in ((0.4, 0.2), (60, 1.0), (0, 0.0)):
        probe = Probe()
        probe.problem = "sick"
        health = probe.health(retry_delay_s=retry_delay_s)
        with pytest.raises(TaskError, match="'svc' is not healthy: sick"):
            await health.require()
        probe.now_s += believed_s * 0.9
        with pytest.raises(TaskError):
            await health.require()
        assert probe.asked == (1 if believed_s else 2)
        probe.problem = None
        probe.now_s += believed_s * 0.2
        await health.require()
        await health.close()


async def test_a_check_that_breaks_is_unhealthy_and_the_next_one_is_made() -> None:
    class Broken(Probe):
        async def __call__(self) -> str | None:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("bug")
            return None

    probe = Broken()
    health = probe.health(retry_delay_s=0)
    with pytest.raises(TaskError, match="the check itself failed: bug"):
        await health.require()
    await health.require()
    await health.close()


async def test_an_interval_of_zero_asks_each_time_and_renews_nothing() -> None:
    probe = Probe()
    health = probe.health(interval_s=0)
    await health.require()
    await health.require()
    assert probe.asked == 2
    await health.close()
