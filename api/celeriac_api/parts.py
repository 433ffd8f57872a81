"""What the routes work with: the parts of one running application, which start and stop together."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from celeriac.access.authenticator import Authenticator
from celeriac.errors import HistoryMissingError
from celeriac.files.service import Files
from celeriac.groups.limits import LimitRules
from celeriac.groups.service import Groups
from celeriac.history.history import History
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from celeriac.store.api_keys import ApiKeys
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.activity import ActivityFeed
from celeriac.store.watching.ends import Ends
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.replies import Replies
from celeriac.store.watching.user_feeds import UserFeeds
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.file_process import FILES
from celeriac.terminal.task_lines import TaskLines
from celeriac.workflows.service import Workflows
from celeriac_api.access.checking import CredentialCheck
from celeriac_api.dispatch.calls import RemoteCalls
from celeriac_api.dispatch.models import ModelDirectory
from celeriac_api.gateway.gateway import Gateway
from celeriac_api.metrics import ProcessMetrics
from celeriac_api.notifications.connections import Connections

#: Where the state of the application holds its parts. The server puts the state into the scope of each connection.
STATE: Final = "parts"


@dataclass(frozen=True, slots=True)
class Parts:
    """The collaborators of all routes. They live as long as the application runs."""

    settings: Settings
    store: TaskStore
    hub: LiveHub
    activity: ActivityFeed
    feeds: UserFeeds
    #: Callers that wait for the ends of tasks.
    ends: Ends
    #: The WebSockets of users that are open.
    connections: Connections
    tasks: Tasks
    workflows: Workflows
    groups: Groups
    limits: LimitRules
    files: Files
    #: The remote workers that are connected to this process.
    gateway: Gateway
    #: Calls of the dispatch API and of OpenAI clients.
    calls: RemoteCalls
    models: ModelDirectory
    #: Turns a credential into its principal.
    authenticator: Authenticator
    #: The same for callers of routes; it also counts the refused credentials of each address.
    credentials: CredentialCheck
    metrics: ProcessMetrics
    #: None if no database is configured.
    history_or_none: History | None = None
    #: None if no database is configured.
    schedules_or_none: Schedules | None = None

    @property
    def schedules(self) -> Schedules:
        """The service of definitions; raises `HistoryMissingError` if there is no database."""
        if self.schedules_or_none is None:
            raise HistoryMissingError("definitions need a database: set DATABASE_URL, and run `celeriac migrate`")
        return self.schedules_or_none

    @property
    def history(self) -> History:
        """The history; raises `HistoryMissingError` if there is no database."""
        if self.history_or_none is None:
            raise HistoryMissingError(
                "this installation keeps no history: set DATABASE_URL, and run `celeriac migrate`"
            )
        return self.history_or_none


def parts_in(scope: Mapping[str, Any]) -> Parts:
    """Return the parts of the application that serves a connection."""
    parts: Parts = scope["state"][STATE]
    return parts


async def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts of the application that serves `connection`."""
    return parts_in(connection.scope)


#: A route's parameter of this type gets the parts.
PartsOf = Annotated[Parts, Depends(parts_of)]


class _Part(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


_P = TypeVar("_P", bound=_Part)


async def _started(stack: AsyncExitStack, part: _P) -> _P:
    """Start a part that stops when the stack is closed, also if it did not start completely."""
    stack.push_async_callback(part.stop)
    await part.start()
    return part


@asynccontextmanager
async def running_parts(
    settings: Settings, registry: Registry, metrics: ProcessMetrics, lines: TaskLines | None = None
) -> AsyncIterator[Parts]:
    """Start the parts of an application; they stop in the opposite order when the block ends or one cannot start.

    Raises `StoreUnavailableError`.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(TaskStore(settings.redis_url or "", settings.store))
        # Work is accepted without a database too: history answers once the database is available and migrated.
        history: History | None = None
        if settings.database_url is not None:
            history = History(
                settings.database_url,
                statement_timeout_s=settings.ledger.statement_timeout,
                page_bytes=settings.max_page_bytes,
            )
            await stack.enter_async_context(history)
        types = TypeCatalog(registry, store)
        await store.name_in_counts(types={*settings.types, *(task_type.name for task_type in registry)})
        files = Files(store=store, settings=settings)
        stack.push_async_callback(files.stop)
        tasks = Tasks(store=store, types=types, settings=settings, history=history, intakes={FILES: files}, warns=True)
        hub = await _started(stack, LiveHub(store=store))
        remote = RemoteTasks(store, secrets.token_hex(6))
        replies = await _started(stack, Replies(store=store, hub=hub, process=remote.gateway))
        gateway = Gateway(
            store=store,
            hub=hub,
            dispatch=settings.dispatch,
            task_log=settings.task_log,
            blocked_loop=settings.blocked_loop,
            lease_s=settings.lease,
            remote=remote,
            lines=lines,
            replies=replies,
        )
        feeds = await _started(stack, UserFeeds(store=store, hub=hub, notifications=settings.notifications))
        ends = await _started(
            stack,
            Ends(
                store=store,
                hub=hub,
                most=settings.server.max_waiters,
                most_per_caller=settings.server.max_waiters_per_caller,
            ),
        )
        calls = RemoteCalls(tasks=tasks, gateway=gateway, replies=replies, settings=settings)
        stack.push_async_callback(calls.stop)
        activity = await _started(stack, ActivityFeed(store=store, pages=settings.pages, titles=tasks.titles))
        await _started(stack, gateway)
        authenticator = Authenticator(settings.access, data_dir=settings.data_dir, find_key=ApiKeys(store).find)
        yield Parts(
            settings=settings,
            store=store,
            hub=hub,
            activity=activity,
            feeds=feeds,
            ends=ends,
            connections=Connections(
                most=settings.notifications.max_connections,
                most_per_user=settings.notifications.max_connections_per_user,
                most_unproven=settings.server.max_unproven_per_address,
            ),
            tasks=tasks,
            workflows=Workflows(tasks=tasks, settings=settings, history=history),
            groups=Groups(store=store, queues=settings.queues),
            limits=LimitRules(store=store),
            files=files,
            gateway=gateway,
            calls=calls,
            models=ModelDirectory(gateway.remote),
            authenticator=authenticator,
            credentials=CredentialCheck(authenticator, failures_per_minute=settings.access.failure_limit),
            metrics=metrics,
            history_or_none=history,
            schedules_or_none=None
            if history is None
            else Schedules(store=store, history=history, types=types.containing, settings=settings),
        )
