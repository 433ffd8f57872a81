"""Turns a Celery app into one whose tasks have records."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from celery import Celery

from celeriac.settings import Settings
from celeriac.tasks.registry import registry as types_of_this_process
from celeriac_tasks.adoption.loading import find_project
from celeriac_tasks.adoption.own import OwnSettings
from celeriac_tasks.adoption.project import ProjectSettings
from celeriac_tasks.engine.app import CeleriacApp, SettingsSource
from celeriac_tasks.engine.attempts.base import recorded
from celeriac_tasks.engine.attempts.held_tasks import HeldTasks
from celeriac_tasks.engine.calls.unknown_tasks import UnknownTasks
from celeriac_tasks.engine.consumer_steps import BatchEvents, DirectPath, FollowGroups, WakeWhenFree
from celeriac_tasks.own_pool import name_own_pool

AnyApp = TypeVar("AnyApp", bound=Celery)


def adopt(app: AnyApp, *, redis_url: str | None = None) -> AnyApp:
    """Give the tasks of a Celery app records, claims, leases and history; returns the app. Idempotent.

    Call it where the app is made. It connects to nothing and reads no configuration. A Redis broker becomes the store
    of the records too; with another broker, `redis_url`, `REDIS_URL` or `celeriac.yaml` names it. The app keeps its
    result backend, queues, serializers, pools and all other settings.
    """
    if not isinstance(app, CeleriacApp):
        _adopt(app, ProjectSettings(redis_url))
    return app


def adopted_by_name(name: str, overrides: Mapping[str, Any] | None = None) -> CeleriacApp:
    """Return the app that Celery's `-A name` finds, adopted; `overrides` are settings that count most.

    Raises `SettingsError` if there is no such app.
    """
    app = find_project(name)
    adopt(app)
    assert isinstance(app, CeleriacApp)
    if isinstance(app.celeriac_source, ProjectSettings):
        app.celeriac_source.overrides = dict(overrides or {})
        app.__dict__.pop("celeriac_settings", None)
    return app


def own_app(settings: Callable[[], Settings]) -> CeleriacApp:
    """Return a new app of the platform's own. `settings` is called when they are needed first."""
    return _adopt(Celery("celeriac"), OwnSettings(settings))


_process_app: CeleriacApp | None = None
_process_app_lock = threading.Lock()


def process_app(settings: Callable[[], Settings]) -> CeleriacApp:
    """Return the platform's app of this process; the first call creates it."""
    global _process_app
    with _process_app_lock:
        if _process_app is None:
            _process_app = own_app(settings)
        return _process_app


def _adopt(app: Any, source: SettingsSource) -> CeleriacApp:
    """Make `app` a `CeleriacApp` of its own class, whatever it has been used for so far."""
    theirs = type(app)
    about = {"__module__": theirs.__module__, "__qualname__": theirs.__qualname__, "__doc__": theirs.__doc__}

    def reduced(adopted: Any) -> Any:
        # Pickle cannot find a class that was made here.
        return _adopted_again, (theirs, adopted.__reduce_keys__(), adopted.celeriac_source)

    name_own_pool()
    # Only a class can take part in what an app does with a call, a task class and its configuration.
    app.__class__ = type(theirs.__name__, (CeleriacApp, theirs), {**about, "__reduce__": reduced})
    app.celeriac_source = source
    app.celeriac_registry = types_of_this_process
    app.steps["consumer"].update({FollowGroups, BatchEvents, DirectPath, WakeWhenFree, HeldTasks, UnknownTasks})
    app.use_store_amqp()
    if app.configured:
        app.celeriac_source.configure(app, app.conf)
    # Tasks that were declared before are made by the class that the app had then.
    app.on_after_finalize.connect(_record_all, sender=app, weak=False)
    if app.finalized:
        _record_all(app)
    adopted: CeleriacApp = app
    return adopted


def _adopted_again(theirs: type[Celery], keys: Mapping[str, Any], source: SettingsSource) -> CeleriacApp:
    return _adopt(theirs(**keys, set_as_current=False), source)


def _record_all(sender: Any, **_: Any) -> None:
    for task in sender._tasks.values():
        task.__class__ = recorded(type(task))
    sender.load_types()
