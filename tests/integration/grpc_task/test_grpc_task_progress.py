"""Progress of a stream: relayed in order, thinned out on request, the last one never lost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from celeriac.errors import StoreUnavailableError, TaskError, TaskTimeoutError
from celeriac_tasks.grpc_task import GrpcTaskHandler
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, play, recorder_of
from tests.kit.waiting import eventually


@pytest.fixture
async def handler(executor: ExecutorProcess) -> AsyncIterator[GrpcTaskHandler]:
    handler = handler_of(executor.settings())
    yield handler
    await handler.close()


async def test_every_report_is_relayed_as_it_came(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    before_ms = time.time() * 1000
    await handler(
        play(
            {"progress": {"percentage": 0, "stage": "start", "timestamp_ms": 1_700_000_000_000}},
            {"progress": {"percentage": 40, "message": "m", "task_id": "somebody else's"}},
            {"progress": {"percentage": 40.25}},
            {"progress": {"percentage": -3}},
            {"progress": {"percentage": 120}},
            {"result": {}},
        ),
        ctx,
    )
    reports = recorder_of(ctx).reports
    assert [report[:3] for report in reports] == [
        (0, "start", ""), (40, "", "m"), (40.25, "", ""), (0, "", ""), (100, "", ""),
    ]  # fmt: skip
    assert type(reports[1][0]) is int
    assert reports[0][3] == 1_700_000_000_000
    assert all(report[3] and before_ms - 1 <= report[3] <= time.time() * 1000 + 1 for report in reports[1:])


async def test_nothing_is_throttled_without_an_interval(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    script = [{"progress": {"percentage": n / 20, "message": str(n)}} for n in range(2000)]
    await handler(play(*script, {"result": {}}), ctx)
    assert [report[2] for report in recorder_of(ctx).reports] == [str(n) for n in range(2000)]


async def test_with_an_interval_the_first_goes_at_once_and_the_last_before_the_result_is_kept(
    handler: GrpcTaskHandler,
) -> None:
    ctx = make_context()
    script = [{"progress": {"percentage": n}} for n in range(1, 81)]
    await handler(play(*script, {"result": {}}, progress_interval_ms=60_000), ctx)
    assert recorder_of(ctx).percentages == [1, 80]


@pytest.mark.parametrize("ending", [{"end": True}, {"error": {"code": "c"}}, {"abort": "INTERNAL"}])
async def test_the_last_one_before_a_failure_is_kept_too(handler: GrpcTaskHandler, ending: dict[str, object]) -> None:
    ctx = make_context()
    script = [{"progress": {"percentage": n}} for n in (1, 2, 3)]
    with pytest.raises(TaskError):
        await handler(play(*script, ending, progress_interval_ms=60_000), ctx)
    assert recorder_of(ctx).percentages == [1, 3]


async def test_the_last_one_before_the_deadline_is_kept_too(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    script = [{"progress": {"percentage": n}} for n in (1, 2, 3)]
    with pytest.raises(TaskTimeoutError):
        await handler(play(*script, {"hang": True}, progress_interval_ms=60_000, timeout_ms=8000), ctx)
    assert recorder_of(ctx).percentages == [1, 3]


async def test_a_held_report_goes_out_when_the_interval_has_passed_on_a_quiet_stream(
    handler: GrpcTaskHandler,
) -> None:
    ctx = make_context()
    script = [{"progress": {"percentage": n}} for n in (1, 2, 3)]
    stream = asyncio.create_task(handler(play(*script, {"hang": True}, progress_interval_ms=6000), ctx))
    await eventually(lambda: len(recorder_of(ctx).reports) == 2, because="3 was held")
    assert recorder_of(ctx).percentages == [1, 3]
    stream.cancel()
    await asyncio.wait([stream])


async def test_published_reports_are_at_least_an_interval_apart(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    # For longer than the machine stalls.
    script = [step for n in range(100) for step in ({"progress": {"percentage": n}}, {"sleep_s": 0.07})]
    await handler(play(*script, {"result": {}}, progress_interval_ms=100), ctx)
    times = recorder_of(ctx).times
    # The last one comes with the result, whenever that is.
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[:-1])]
    assert len(times) >= 4
    assert min(gaps) >= 0.095
    assert recorder_of(ctx).percentages[-1] == 99


async def test_unwanted_progress_is_not_asked_for_and_dropped_if_it_comes(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    ctx = make_context()
    await handler(play({"progress": {"percentage": 5}}, {"result": {}}, enable_progress=False), ctx)
    assert recorder_of(ctx).reports == []
    (request,) = (await executor.seen())["requests"]
    assert request["options"]["enable_progress"] is False


@pytest.mark.parametrize("interval_ms", [0, 1])
@pytest.mark.parametrize(("buffer", "window"), [(1000, 64), (3, 3), (1, 1)])
async def test_a_slow_store_slows_the_stream_instead_of_piling_reports_up(
    executor: ExecutorProcess, buffer: int, window: int, interval_ms: int
) -> None:
    settings = executor.settings()
    worker = settings.worker.model_copy(update={"progress_buffer": buffer})
    handler = handler_of(settings.model_copy(update={"worker": worker}))
    ctx = make_context()
    recorder = recorder_of(ctx)
    recorder.storing.clear()
    script = [step for n in range(500) for step in ({"progress": {"percentage": n / 5}}, {"sleep_s": 0.001})]
    stream = asyncio.create_task(handler(play(*script, {"result": {}}, progress_interval_ms=interval_ms), ctx))
    await eventually(lambda: len(recorder.reports) == window, because="the window fills")
    done, _ = await asyncio.wait([stream], timeout=0.3)
    assert not done
    assert len(recorder.reports) == window
    recorder.storing.set()
    await stream
    assert recorder.percentages == sorted(recorder.percentages)
    assert recorder.percentages[-1] == 499 / 5
    if not interval_ms:
        assert len(recorder.reports) == 500
    await handler.close()


async def test_a_report_that_cannot_be_stored_does_not_fail_the_executor_s_work(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    recorder_of(ctx).problem = StoreUnavailableError("away")
    assert await handler(play({"progress": {"percentage": 1}}, {"result": {"ok": 1}}), ctx) == {"ok": 1}
    assert recorder_of(ctx).percentages == [1]


async def test_dropping_a_stream_leaves_reports_on_their_way_alone(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    recorder = recorder_of(ctx)
    recorder.storing.clear()
    stream = asyncio.create_task(handler(play({"progress": {"percentage": 1}}, {"end": True}), ctx))
    await eventually(lambda: recorder.answers, because="the report is on its way")
    stream.cancel()
    await asyncio.wait([stream])
    recorder.storing.set()
    await asyncio.wait(recorder.answers)
    assert not recorder.answers[0].cancelled()
