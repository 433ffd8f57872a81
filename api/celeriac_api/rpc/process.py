"""`celeriac grpc`: a process that serves only gRPC. The API process serves the same beside HTTP."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from celeriac.access.authenticator import Authenticator
from celeriac.errors import CeleriacError
from celeriac.files.service import Files
from celeriac.files.sweeping import file_roles
from celeriac.history.history import History
from celeriac.settings import Settings
from celeriac.store.api_keys import ApiKeys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.file_process import FILES
from celeriac_api.rpc.access import AccessInterceptor
from celeriac_api.rpc.server import RpcServer


def main(settings: Settings, options: Mapping[str, Any]) -> int | None:
    """Serve until SIGTERM or SIGINT; returns the exit code. Standard error says if the port is taken."""
    del options
    try:
        asyncio.run(_serve(settings))
    except CeleriacError as exc:
        print(f"celeriac grpc: {exc}", file=sys.stderr)
        return 1
    return 0


@asynccontextmanager
async def serving_rpc(settings: Settings) -> AsyncIterator[Files]:
    """Serve gRPC on the port of the settings, with the roles that look after files; yields the service of files.

    Raises `StoreUnavailableError`, and `SettingsError` for a port that is taken.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(TaskStore(settings.redis_url or "", settings.store))
        files = Files(store=store, settings=settings)
        stack.push_async_callback(files.stop)
        history = None
        if settings.database_url is not None:
            history = await stack.enter_async_context(
                History(settings.database_url, statement_timeout_s=settings.ledger.statement_timeout)
            )
        tasks = Tasks(
            store=store,
            types=TypeCatalog(registry, store),
            settings=settings,
            history=history,
            intakes={FILES: files},
        )
        for role in file_roles(files):
            await role.start()
            stack.push_async_callback(role.stop)
        authenticator = Authenticator(settings.access, data_dir=settings.data_dir, find_key=ApiKeys(store).find)
        rpc = RpcServer(
            host=settings.host,
            port=settings.grpc_port,
            files=files,
            tasks=tasks,
            interceptor=AccessInterceptor(
                settings.access, host=settings.host, authenticator=authenticator, limits=settings.server
            ),
            tls=settings.access.tls,
            limits=settings.server,
        )
        await rpc.start()
        stack.push_async_callback(rpc.stop)
        yield files


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serving_rpc(settings):
        await stopping.wait()
