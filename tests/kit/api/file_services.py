"""The service of files on folders of a test's own, and the gRPC server on top of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from celeriac.access.authenticator import Authenticator
from celeriac.files.service import Files
from celeriac.settings import Settings
from celeriac.store.api_keys import ApiKeys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.file_process import FILES
from celeriac_api.rpc.access import AccessInterceptor
from celeriac_api.rpc.server import RpcServer


def file_settings(folder: Path, **values: Any) -> Settings:
    """Return settings whose storage, data folder and roots are below `folder`."""
    (folder / "temp").mkdir(exist_ok=True)
    data = folder / "data"
    files = {
        "storage_path": folder / "storage",
        "allowed_roots": [folder / "temp", data / "uploads"],
        **values.pop("files", {}),
    }
    return Settings.model_validate({"data_dir": data, "files": files, **values})


@asynccontextmanager
async def rpc_serving(store: TaskStore, settings: Settings) -> AsyncIterator[tuple[str, grpc.aio.Channel, Files]]:
    """Serve gRPC on a free port; yields its address, a channel to it, and the service of files."""
    files = Files(store=store, settings=settings)
    tasks = Tasks(store=store, types=TypeCatalog(registry, store), settings=settings, intakes={FILES: files})
    authenticator = Authenticator(settings.access, data_dir=settings.data_dir, find_key=ApiKeys(store).find)
    limits = settings.server
    interceptor = AccessInterceptor(settings.access, host=settings.host, authenticator=authenticator, limits=limits)
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        files=files,
        tasks=tasks,
        interceptor=interceptor,
        tls=settings.access.tls,
        limits=limits,
    )
    await server.start()
    try:
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            yield address, channel, files
    finally:
        await server.stop()
        await files.stop()


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
