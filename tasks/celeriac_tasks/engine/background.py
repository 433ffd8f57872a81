"""The background roles of an installation; any number of processes may run them."""

from __future__ import annotations

from celeriac.store.roles.external import ExternalWatcher
from celeriac.store.roles.promoter import Promoter
from celeriac.store.roles.reaper import Reaper
from celeriac.store.roles.role import Role
from celeriac.store.roles.sweeper import Sweeper
from celeriac.store.task_store import TaskStore
from celeriac_tasks.engine.brokers.broker import Broker
from celeriac_tasks.engine.brokers.outbox import OutboxPublisher


def background_roles(store: TaskStore, broker: Broker | None) -> list[Role]:
    """Return the roles that keep tasks moving; pass Celery's `broker` if it is not the store itself."""
    roles: list[Role] = [Promoter(store=store), Reaper(store=store), ExternalWatcher(store=store)]
    if broker is None:
        return [*roles, Sweeper(store=store)]
    return [*roles, Sweeper(store=store, broker_empty=broker.is_empty), OutboxPublisher(store=store, broker=broker)]
