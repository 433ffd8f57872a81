"""The HTTP application, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import celeriac.tasks.types.bulk
import celeriac.tasks.types.demo
import celeriac.tasks.types.file_process
import celeriac.tasks.types.grpc_task  # noqa: F401 - these register the built-in task types
from celeriac import __version__
from celeriac.access.authenticator import Authenticator
from celeriac.errors import SettingsError
from celeriac.files.intake import FileIntake
from celeriac.history.history import Ledger
from celeriac.schedules.service import TaskControl
from celeriac.settings import Settings
from celeriac.store.api_keys import ApiKeys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.activity import ActivityFeed
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.replies import Replies
from celeriac.store.watching.user_feeds import UserFeeds
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import load
from celeriac_api.access.checking import CredentialCheck
from celeriac_api.access.guard import Guard
from celeriac_api.dispatch import chat
from celeriac_api.dispatch import endpoint as dispatch_endpoint
from celeriac_api.dispatch import routes as dispatch
from celeriac_api.dispatch.calls import RemoteCalls
from celeriac_api.dispatch.models import ModelDirectory
from celeriac_api.front_door import FrontDoor
from celeriac_api.gateway.endpoint import WorkerEndpoint
from celeriac_api.gateway.gateway import Gateway
from celeriac_api.http import problems
from celeriac_api.metrics import ProcessMetrics
from celeriac_api.notifications import endpoint as ws_notifications
from celeriac_api.notifications.connections import Connections
from celeriac_api.openapi import document as openapi_document
from celeriac_api.pages import routes as pages
from celeriac_api.pages import sign_in
from celeriac_api.parts import Parts
from celeriac_api.routes import audit, definitions, health, live, metrics, notifications, operations
from celeriac_api.routes.files import files, uploads
from celeriac_api.routes.tasks import batch, bulk, downloads, log, progress
from celeriac_api.routes.tasks import listing as history
from celeriac_api.routes.tasks import task as tasks
from celeriac_api.routes.tasks.submit import SubmitEndpoint


def create_app(settings: Settings) -> FastAPI:
    """Return the application; it connects to the store when it is started, and disconnects when it ends.

    Imports the modules of `settings.imports`; raises `SettingsError` where that, or the settings, fail.
    """
    if settings.redis_url is None:
        raise SettingsError("redis_url is not set: set REDIS_URL, or start everything with `celeriac up`")
    redis_url = settings.redis_url
    registry = load(settings.imports)
    submit = SubmitEndpoint(settings.max_body_bytes)
    dispatched = dispatch_endpoint.DispatchEndpoint(settings.max_body_bytes)
    chatting = chat.ChatEndpoint(settings.max_body_bytes)
    workers = WorkerEndpoint(max_result_bytes=settings.max_result_bytes)
    guard = Guard(settings.access, host=settings.host)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with TaskStore(redis_url, settings) as store:
            # A database that is away, or not migrated, is no reason to refuse work: history answers when it is there.
            ledger = (
                None
                if settings.database_url is None
                else Ledger(settings.database_url, statement_timeout_s=settings.ledger.statement_timeout)
            )
            hub = LiveHub(store)
            types = TypeCatalog(registry, store)
            feeds = UserFeeds(store, hub)
            intake = FileIntake(store=store, settings=settings)
            gateway = Gateway(
                store=store,
                hub=hub,
                dispatch=settings.dispatch,
                task_log=settings.task_log,
                lease_s=settings.lease,
            )
            await hub.start()
            await feeds.start()
            await gateway.start()
            activity = ActivityFeed(store=store)
            await activity.start()
            authenticator = Authenticator(settings.access, data_dir=settings.data_dir, find_key=ApiKeys(store).find)
            replies = Replies(store, hub, gateway.remote.gateway)
            await replies.start()
            calls = RemoteCalls(store=store, gateway=gateway, replies=replies, settings=settings)
            try:
                parts = Parts(
                    settings=settings,
                    store=store,
                    hub=hub,
                    feeds=feeds,
                    connections=Connections(
                        most=settings.notifications.max_connections,
                        most_per_user=settings.notifications.max_connections_per_user,
                    ),
                    types=types,
                    activity=activity,
                    files=intake,
                    gateway=gateway,
                    authenticator=authenticator,
                    credentials=CredentialCheck(authenticator, failures_per_minute=settings.access.failure_limit),
                    ledger=ledger,
                    definitions=(
                        None if ledger is None else TaskControl(store=store, ledger=ledger, types=types.containing)
                    ),
                )
                app.state.parts = submit.parts = guard.parts = parts
                workers.gateway = gateway
                dispatched.calls = chatting.calls = calls
                chatting.models = ModelDirectory(gateway.remote)
                yield
            finally:
                await gateway.stop()
                await activity.stop()
                await calls.stop()
                await replies.stop()
                await feeds.stop()
                await hub.stop()
                await intake.stop()
                if ledger is not None:
                    await ledger.stop()

    app = FrontDoor(
        guard=guard,
        submit=submit,
        workers=workers,
        plain={dispatch_endpoint.PATH: dispatched, chat.CHAT_PATH: chatting, chat.MODELS_PATH: chatting},
        max_body_bytes=settings.max_body_bytes,
        title="Celeriac",
        version=__version__,
        description=openapi_document.DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        # Short names for generated clients; routes that share a handler say theirs.
        generate_unique_id_function=lambda route: route.name,
        openapi_tags=openapi_document.TAGS,
        # Those of the framework load code from elsewhere; ours is in pages/.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.metrics = ProcessMetrics(app.open)
    problems.install(app)
    for router in (
        tasks.submission_route(submit),
        batch.router,
        history.router,
        bulk.router,
        tasks.router,
        # Before the dispatch routes: `/api/task/tasks` is no task id.
        notifications.router,
        ws_notifications.router,
        progress.router,
        log.router,
        downloads.router,
        files.router,
        uploads.router,
        definitions.router,
        operations.router,
        audit.router,
        live.router,
        dispatch.call_route(dispatched),
        dispatch.chat_routes(chatting),
        # After whatever has a fixed path below /api/task.
        dispatch.router,
        health.router,
        metrics.router,
        pages.router,
        sign_in.router,
    ):
        app.include_router(router)
    return app
