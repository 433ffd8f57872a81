"""What an executor's answer means for the task: the table of docs/grpc-task.md, row by row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from celeriac.errors import ExecutorLostError, RateLimited, SkipRetry, TaskError, TaskTimeoutError
from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.tasks.registry import Registry
from celeriac.tasks.types.grpc_task import GrpcTaskPayload
from celeriac.testing import run_task_async
from celeriac_tasks.grpc_task import GrpcTaskHandler, install
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, play, recorder_of
from tests.kit.servers import free_port
from tests.kit.waiting import eventually

MakeHandler = Callable[[Settings], GrpcTaskHandler]


@pytest.fixture
async def make_handler() -> AsyncIterator[MakeHandler]:
    async with AsyncExitStack() as stack:

        def make(settings: Settings) -> GrpcTaskHandler:
            handler = handler_of(settings)
            stack.push_async_callback(handler.close)
            return handler

        yield make


@pytest.fixture
def handler(executor: ExecutorProcess, make_handler: MakeHandler) -> GrpcTaskHandler:
    return make_handler(executor.settings(timeout="30s"))


async def test_completed_result_is_the_task_s_result_and_the_request_says_everything(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    data = {
        "script": [{"result": {"n": 3, "half": 0.5, "list": [1, None, {}], "big": 1e300, "text": "é", "on": True}}],
        "input": {"deep": [{"a": []}]},
    }
    payload = GrpcTaskPayload.model_validate(
        {
            "service": "svc",
            "method": "play",
            "data": data,
            "options": {"timeout_ms": 25000, "progress_interval_ms": 250},
        }
    )
    ctx = make_context(attempt=3, max_retries=5, group="gpu")
    result = await handler(payload, ctx)

    assert result == {"n": 3, "half": 0.5, "list": [1, None, {}], "big": 1e300, "text": "é", "on": True}
    assert type(result["n"]) is int
    assert type(result["list"][0]) is int
    (request,) = (await executor.seen())["requests"]
    assert request["task_id"] == ctx.task_id
    assert request["task_type"] == "play"
    assert request["payload"] == data
    assert request["metadata"] == {"service": "svc", "queue": "gpu", "retry_count": "2", "max_retry": "5"}
    assert request["options"] == {"timeout_ms": 25000, "enable_progress": True, "progress_interval_ms": 250}
    assert 10 < request["time_remaining_s"] < 25.5


async def test_the_service_s_timeout_is_the_deadline_where_the_task_sets_none(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    assert await handler(play({"result": {}}), make_context()) == {}
    (request,) = (await executor.seen())["requests"]
    assert request["options"]["timeout_ms"] == 30_000
    assert 15 < request["time_remaining_s"] < 31


async def test_the_time_limit_of_the_task_is_the_deadline_where_it_is_shorter(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    await handler(play({"result": {}}), make_context(timeout_ms=20_000))
    await handler(play({"result": {}}, timeout_ms=7000), make_context(timeout_ms=20_000))
    limits = [request["options"]["timeout_ms"] for request in (await executor.seen())["requests"]]
    assert limits == [20_000, 7000]


@pytest.mark.parametrize(
    ("step", "kind", "code", "message"),
    [
        ({"error": {"code": "bad", "message": "no", "retryable": False}}, SkipRetry, "bad", "no"),
        ({"error": {"code": "busy", "message": "later", "retryable": True}}, TaskError, "busy", "later"),
        ({"error": {}}, SkipRetry, "task_failed", "reported an error without a message (code: none)"),
        ({"result": {"error": "it broke"}, "status": 2}, TaskError, "task_failed", "it broke"),
        ({"result": {"message": "so sad"}, "status": 2}, TaskError, "task_failed", "so sad"),
        ({"result": {}, "status": 2}, TaskError, "task_failed", "gRPC service 'svc' reported a failure"),
        ({"result": {"message": "given up"}, "status": 3}, SkipRetry, "cancelled_by_service", "given up"),
        ({"result": {}, "status": 0}, TaskError, "invalid_result", "sent a result without a known status"),
        ({"result": {}, "status": 9}, TaskError, "invalid_result", "sent a result without a known status"),
        ({"end": True}, TaskError, "no_result", "neither result nor error"),
        ({"empty": True}, TaskError, "no_result", "neither result nor error"),
        ({"abort": "INTERNAL", "details": "oops"}, TaskError, "internal", "oops"),
        ({"abort": "UNAVAILABLE", "details": "away"}, ExecutorLostError, "unavailable", "away"),
        ({"abort": "CANCELLED"}, ExecutorLostError, "cancelled", "cancelled"),
        ({"abort": "RESOURCE_EXHAUSTED", "details": "quota"}, TaskError, "resource_exhausted", "quota"),
        ({"abort": "UNIMPLEMENTED"}, TaskError, "unimplemented", "unimplemented"),
        ({"abort": "INVALID_ARGUMENT", "details": "x < 0"}, TaskError, "invalid_argument", "x < 0"),
        ({"abort": "NOT_FOUND"}, TaskError, "not_found", "not_found"),
        ({"abort": "UNAUTHENTICATED"}, TaskError, "unauthenticated", "unauthenticated"),
        ({"abort": "PERMISSION_DENIED"}, TaskError, "permission_denied", "permission_denied"),
        ({"abort": "DEADLINE_EXCEEDED"}, TaskTimeoutError, "timeout", "within 30 s"),
    ],
)  # fmt: skip
async def test_failure_has_the_code_and_the_retryability_that_the_contract_says(
    handler: GrpcTaskHandler, step: dict[str, Any], kind: type[TaskError], code: str, message: str
) -> None:
    with pytest.raises(TaskError) as failed:
        await handler(play({"progress": {"percentage": 10}}, step), make_context())
    assert type(failed.value) is kind
    assert failed.value.code == code
    assert message in failed.value.message


@pytest.mark.parametrize("status", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
async def test_a_service_that_says_when_to_try_again_is_obeyed(handler: GrpcTaskHandler, status: str) -> None:
    refusal = {"abort": status, "details": "quota", "trailers": {"grpc-retry-pushback-ms": "30500"}}
    with pytest.raises(RateLimited) as told:
        await handler(play({"progress": {"percentage": 10}}, refusal), make_context())
    assert told.value.retry_after_s == 30.5
    assert "quota" in told.value.message
    for unclear in ("-1", "soon", ""):
        with pytest.raises(TaskError) as failed:
            await handler(play({**refusal, "trailers": {"grpc-retry-pushback-ms": unclear}}), make_context())
        assert failed.value.code == status.lower()


async def test_what_follows_the_result_is_ignored(handler: GrpcTaskHandler) -> None:
    ctx = make_context()
    script = play(
        {"progress": {"percentage": 1}},
        {"result": {"first": True}},
        {"progress": {"percentage": 2}},
        {"result": {"second": True}},
        {"error": {"code": "late"}},
        {"abort": "INTERNAL"},
    )
    assert await handler(script, ctx) == {"first": True}
    assert recorder_of(ctx).percentages == [1]


async def test_an_executor_that_keeps_the_stream_open_after_its_result_does_not_hold_the_task(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    ctx = make_context()
    started_at = asyncio.get_running_loop().time()
    assert await handler(play({"result": {"done": True}}, {"hang": True}), ctx) == {"done": True}
    # Its deadline is half a minute.
    assert asyncio.get_running_loop().time() - started_at < 20

    async def dropped() -> bool:
        return ctx.task_id in (await executor.seen())["dropped"]

    await eventually(dropped, because="the stream is closed under an executor that does not end it")


async def test_deadline_is_a_timeout_and_ends_the_call_at_the_executor(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    ctx = make_context()
    with pytest.raises(TaskTimeoutError) as failed:
        await handler(play({"hang": True}, timeout_ms=6000), ctx)
    assert failed.value.code == "timeout"
    assert failed.value.retryable
    assert "within 6 s" in failed.value.message

    async def dropped() -> bool:
        return ctx.task_id in (await executor.seen())["dropped"]

    await eventually(dropped, because="the deadline travels with the call")
    assert (await executor.seen())["cancels"] == []


async def test_a_result_above_the_limit_is_final_and_one_at_the_limit_passes(
    executor: ExecutorProcess, make_handler: MakeHandler
) -> None:
    settings = executor.settings().model_copy(update={"max_result_bytes": 100_000})
    handler = make_handler(settings)
    assert len((await handler(play({"result_bytes": 90_000}), make_context()))["text"]) == 90_000
    with pytest.raises(SkipRetry) as failed:
        await handler(play({"result_bytes": 800_000}), make_context())
    assert failed.value.code == "too_large"


async def test_a_payload_above_what_the_executor_takes_is_final(handler: GrpcTaskHandler) -> None:
    payload = GrpcTaskPayload(service="svc", method="play", data={"text": "x" * 5_000_000})
    with pytest.raises(SkipRetry) as failed:
        await handler(payload, make_context())
    assert failed.value.code == "too_large"


async def test_data_that_no_message_can_hold_is_final(handler: GrpcTaskHandler) -> None:
    payload = GrpcTaskPayload(service="svc", method="play", data={"text": "\ud800"})
    with pytest.raises(SkipRetry) as failed:
        await handler(payload, make_context())
    assert failed.value.code == "invalid_payload"


async def test_unknown_and_switched_off_services_fail_for_good(make_handler: MakeHandler) -> None:
    known = {"svc": {"address": "127.0.0.1:1"}}
    handler = make_handler(Settings.model_validate({"grpc_services": {"services": known}}))
    with pytest.raises(SkipRetry, match="known are: svc") as failed:
        await handler(GrpcTaskPayload(service="nobody", method="m"), make_context())
    assert failed.value.code == "unknown_service"

    off = make_handler(Settings.model_validate({"grpc_services": {"enabled": False, "services": known}}))
    with pytest.raises(SkipRetry, match=r"grpc_services\.enabled is false") as failed:
        await off(play(), make_context())
    assert failed.value.code == "grpc_disabled"


async def test_unhealthy_executor_is_not_called_and_the_failure_is_retryable(
    executor: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    for status in (0, 2):
        await executor.ask("health", status=status)
        with pytest.raises(TaskError, match="as the test said") as failed:
            await handler(play({"result": {}}), make_context())
        assert (failed.value.code, failed.value.retryable) == ("service_unhealthy", True)
    assert (await executor.seen())["requests"] == []

    await executor.ask("health", status=1)

    async def works() -> bool:
        try:
            return await handler(play({"result": {"ok": 1}}), make_context()) == {"ok": 1}
        except TaskError:
            return False

    await eventually(works, because="an unhealthy verdict is not believed for long", timeout_s=3)


async def test_unreachable_executor_is_unhealthy_and_found_again_when_it_comes(make_handler: MakeHandler) -> None:
    executor = ExecutorProcess()
    executor.port = free_port()
    handler = make_handler(executor.settings(retry_delay="200ms"))
    for _ in range(3):
        with pytest.raises(TaskError, match="unavailable") as failed:
            await handler(play({"result": {}}), make_context())
        assert (failed.value.code, failed.value.retryable) == ("service_unhealthy", True)

    async def works() -> bool:
        try:
            return await handler(play({"result": {"ok": 1}}), make_context()) == {"ok": 1}
        except TaskError:
            return False

    async with executor:
        await eventually(works, because="reconnecting does not back off for minutes", timeout_s=5)


async def test_a_failed_task_waits_its_service_s_delay_with_backoff_and_fails_after_its_retries() -> None:
    service = {"address": f"127.0.0.1:{free_port()}", "max_retries": 2, "retry_delay": "40s"}
    settings = Settings.model_validate({"grpc_services": {"services": {"svc": service}}})
    registry = Registry()
    handler = install(settings, registry)
    grpc_task = registry.get("grpc_task")
    assert grpc_task is not None
    payload = {"service": "svc", "method": "play"}
    try:
        outcomes = [
            await run_task_async(grpc_task, payload, attempt=attempt, settings=settings) for attempt in (1, 2, 3)
        ]
    finally:
        await handler.close()
    assert [(outcome.status, outcome.would_retry_in_s) for outcome in outcomes] == [
        (Status.RETRYING, 40),
        (Status.RETRYING, 80),
        (Status.FAILED, None),
    ]
    assert {outcome.error and outcome.error.code for outcome in outcomes} == {"service_unhealthy"}


async def test_an_executor_without_health_check_counts_as_healthy(make_handler: MakeHandler) -> None:
    async with ExecutorProcess("--no-health") as executor:
        handler = make_handler(executor.settings())
        assert await handler(play({"result": {"ok": 1}}), make_context()) == {"ok": 1}


async def test_an_executor_killed_under_its_streams_fails_them_retryably_and_serves_again_when_it_is_back(
    executor: ExecutorProcess, make_handler: MakeHandler
) -> None:
    handler = make_handler(executor.settings(retry_delay="200ms"))
    contexts = [make_context() for _ in range(5)]
    script = play({"progress": {"percentage": 30}}, {"hang": True})
    streams = [asyncio.create_task(handler(script, ctx)) for ctx in contexts]
    await eventually(lambda: all(recorder_of(ctx).reports for ctx in contexts), because="all streams run")
    await executor.kill()
    for failure in await asyncio.gather(*streams, return_exceptions=True):
        assert type(failure) is ExecutorLostError
        assert failure.retryable
        assert failure.code == "unavailable"
    with pytest.raises(TaskError) as failed:
        await handler(play({"result": {}}), make_context())
    assert failed.value.code == "service_unhealthy", "the verdict from before the crash is forgotten"

    await executor.start()

    async def works() -> bool:
        try:
            return await handler(play({"result": {"ok": 1}}), make_context()) == {"ok": 1}
        except TaskError:
            return False

    await eventually(works, because="the channel reconnects", timeout_s=5)
