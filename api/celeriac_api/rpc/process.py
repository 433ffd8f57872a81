"""`celeriac grpc`: a process that serves gRPC and nothing else. The API process serves the same beside HTTP."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import celeriac.tasks.types.file_process  # noqa: F401 - registers itself
from celeriac.access.authenticator import Authenticator
from celeriac.errors import CeleriacError
from celeriac.files.intake import FileIntake
from celeriac.files.sweeping import file_roles
from celeriac.settings import Settings
from celeriac.store.api_keys import ApiKeys
from celeriac.store.task_store import TaskStore
from celeriac_api.rpc.access import AccessInterceptor
from celeriac_api.rpc.server import RpcServer


def main(settings: Settings, options: Mapping[str, Any]) -> int | None:
    """Serve until SIGTERM or SIGINT; returns the exit code. A taken port is said on standard error."""
    del options
    try:
        asyncio.run(_serve(settings))
    except CeleriacError as exc:
        print(f"celeriac grpc: {exc}", file=sys.stderr)
        return 1
    return 0


@asynccontextmanager
async def serving_rpc(settings: Settings) -> AsyncIterator[FileIntake]:
    """Serve gRPC on the port of the settings, with the roles that look after files; yields the intake.

    Raises `StoreUnavailableError`, and `SettingsError` for a port that is taken.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(TaskStore(settings.redis_url or "", settings))
        intake = FileIntake(store=store, settings=settings)
        stack.push_async_callback(intake.stop)
        for role in file_roles(intake):
            await role.start()
            stack.push_async_callback(role.stop)
        authenticator = Authenticator(settings.access, data_dir=settings.data_dir, find_key=ApiKeys(store).find)
        rpc = RpcServer(
            host=settings.host,
            port=settings.grpc_port,
            intake=intake,
            interceptor=AccessInterceptor(settings.access, host=settings.host, authenticator=authenticator),
            tls=settings.access.tls,
        )
        await rpc.start()
        stack.push_async_callback(rpc.stop)
        yield intake


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serving_rpc(settings):
        await stopping.wait()
