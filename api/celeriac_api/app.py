"""The HTTP application, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

import celeriac.tasks.types.bulk
import celeriac.tasks.types.demo
import celeriac.tasks.types.file_process
import celeriac.tasks.types.grpc_task  # noqa: F401 - these register the built-in task types
from celeriac import __version__
from celeriac.errors import SettingsError
from celeriac.settings import Settings
from celeriac.tasks.registry import load
from celeriac.terminal.task_lines import TaskLines
from celeriac_api.front_door import FrontDoor
from celeriac_api.guard import Guard
from celeriac_api.http import problems
from celeriac_api.metrics import ProcessMetrics
from celeriac_api.openapi import document as openapi_document
from celeriac_api.pages import answer, sign_in
from celeriac_api.pages import routes as pages
from celeriac_api.parts import STATE, Parts, running_parts
from celeriac_api.routes import (
    audit,
    definitions,
    errors,
    groups,
    health,
    keys,
    limits,
    live,
    metrics,
    task_types,
    workers,
    workflows,
)
from celeriac_api.routes import worker_websocket as gateway
from celeriac_api.routes.dispatch import chat_routes
from celeriac_api.routes.dispatch import routes as dispatch
from celeriac_api.routes.files import files, uploads
from celeriac_api.routes.notifications import routes as notifications
from celeriac_api.routes.notifications import websocket as user_websocket
from celeriac_api.routes.tasks import batch, bulk, downloads, log, progress, signals, steps
from celeriac_api.routes.tasks import listing as history
from celeriac_api.routes.tasks import task as tasks

#: In the order in which a request is compared with them.
_ROUTERS: Final = (
    batch.router,
    history.router,
    errors.router,
    bulk.router,
    tasks.router,
    # Before the dispatch routes: `/api/task/tasks` is not the id of a task.
    notifications.router,
    user_websocket.router,
    progress.router,
    log.router,
    signals.router,
    steps.router,
    downloads.router,
    files.router,
    uploads.router,
    workflows.router,
    definitions.router,
    groups.router,
    limits.router,
    workers.router,
    task_types.router,
    audit.router,
    keys.router,
    live.router,
    dispatch.router,
    chat_routes.router,
    gateway.router,
    health.router,
    metrics.router,
    pages.router,
    sign_in.router,
    answer.router,
)


def create_app(settings: Settings, lines: TaskLines | None = None) -> FrontDoor:
    """Return the application. It connects to the store when it is started, and disconnects when it ends.

    `lines` shows the ends of remote tasks. Imports the modules of `settings.imports`. Raises `SettingsError` if that
    fails or the settings are wrong.
    """
    if settings.redis_url is None:
        raise SettingsError("redis_url is not set: set REDIS_URL, or start everything with `celeriac up`")
    registry = load(settings.imports)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Parts]]:
        async with running_parts(settings, registry, ProcessMetrics(app.open), lines) as parts:
            yield {STATE: parts}

    app = FrontDoor(
        guard=Guard(settings.access, host=settings.host),
        max_body_bytes=settings.max_body_bytes,
        unproven=settings.server,
        title="Celeriac",
        version=__version__,
        description=openapi_document.DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=openapi_document.TAGS,
        # The framework's own pages load code from other sites. pages/ has ours, and the route of the document.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for router in _ROUTERS:
        app.add(router)
    problems.install(app, app.table.methods)
    return app
