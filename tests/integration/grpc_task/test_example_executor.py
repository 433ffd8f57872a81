"""The example executor does what its README says."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from celeriac.errors import SkipRetry, TaskError
from celeriac.settings import load_settings
from celeriac.tasks.types.grpc_task import GrpcTaskPayload
from celeriac.up.children import user_commands
from celeriac_tasks.grpc_task import GrpcTaskHandler
from tests.kit.command_line import REPOSITORY
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, recorder_of
from tests.kit.waiting import eventually

ADDRESS = "CELERIAC_GRPC_SERVICES__SERVICES__DEMO__ADDRESS"
EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
async def example() -> AsyncIterator[ExecutorProcess]:
    async with ExecutorProcess(program=EXAMPLES / "python_service" / "server.py") as process:
        yield process


@pytest.fixture
async def handler(example: ExecutorProcess) -> AsyncIterator[GrpcTaskHandler]:
    handler = handler_of(example.settings())
    yield handler
    await handler.close()


def call(method: str, **data: Any) -> GrpcTaskPayload:
    return GrpcTaskPayload(service="svc", method=method, data=data)


async def test_its_methods_do_what_they_are_named_for(handler: GrpcTaskHandler) -> None:
    assert await handler(call("echo", a=1, b=[True]), make_context()) == {"a": 1, "b": [True]}

    ctx = make_context()
    assert await handler(call("count", seconds=0.2, steps=4), ctx) == {"counted": 4}
    assert recorder_of(ctx).percentages == [25, 50, 75, 100]
    assert recorder_of(ctx).reports[1][1:3] == ("counting", "2 of 4")

    for attempt in (1, 2):
        with pytest.raises(TaskError) as failed:
            await handler(call("flaky", failures=2), make_context(attempt=attempt))
        assert failed.value.retryable
    assert await handler(call("flaky", failures=2), make_context(attempt=3)) == {"attempts": 3}

    for payload, code in (
        (call("broken"), "broken"),
        (call("nothing"), "unknown_method"),
        (call("count", seconds="soon"), "invalid_input"),
    ):
        with pytest.raises(SkipRetry) as refused:
            await handler(payload, make_context())
        assert refused.value.code == code


async def test_count_stops_when_it_is_cancelled_and_sigterm_ends_the_server(
    example: ExecutorProcess, handler: GrpcTaskHandler
) -> None:
    ctx = make_context()
    counting = asyncio.create_task(handler(call("count", seconds=600, steps=6000), ctx))
    await eventually(lambda: recorder_of(ctx).reports, because="it counts")
    ctx.stop("cancel")
    counting.cancel()
    await asyncio.wait([counting])
    assert counting.cancelled()

    process = example.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    # At once: it would wait five seconds for a call that still ran.
    await eventually(lambda: process.returncode is not None, because="it ends at once", timeout_s=4)
    assert process.returncode == 0


async def test_a_taken_port_is_refused_in_plain_words(example: ExecutorProcess) -> None:
    second = await asyncio.create_subprocess_exec(
        sys.executable, str(example.program), f"--port={example.port}", stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await second.communicate()
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{example.port}" in stderr.decode()


def test_the_quickstart_s_configuration_loads_and_knows_it() -> None:
    settings = load_settings(EXAMPLES / "quickstart.yaml", environ={})
    service = settings.grpc_services.resolve("demo")
    assert service is not None
    assert service.address == "127.0.0.1:50061"
    settings_of: tuple[tuple[dict[str, str], str], ...] = (({}, "50061"), ({ADDRESS: "127.0.0.1:50062"}, "50062"))
    for environ, port in settings_of:
        settings = load_settings(EXAMPLES / "quickstart.yaml", environ=environ)
        command = user_commands(settings.up.processes, settings.grpc_services.services, taken=set())["demo-executor"]
        assert command[1:] == ("examples/python_service/server.py", "--port", port)
