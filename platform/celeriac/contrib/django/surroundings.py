"""What is around each attempt: fresh connections, the project's language and time zone, as around a request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.db import close_old_connections, connections, reset_queries
from django.utils import timezone, translation

from celeriac.tasks.registry import Handler


def surrounded(handler: Handler) -> Handler:
    """Return a handler that runs as a request does: with fresh connections, in the project's language and time zone."""
    if inspect.iscoroutinefunction(handler):

        async def around_async(*args: Any, **kwargs: Any) -> Any:
            # A thread of its own for what is not asynchronous, as a request has: attempts do not wait for each other.
            async with ThreadSensitiveContext():
                with _project_locale():
                    try:
                        return await handler(*args, **kwargs)
                    finally:
                        await _close_in_thread()

        return functools.wraps(handler)(around_async)

    def around(*args: Any, **kwargs: Any) -> Any:
        _begin()
        try:
            with _project_locale():
                return handler(*args, **kwargs)
        finally:
            close_old_connections()

    return functools.wraps(handler)(around)


def _begin() -> None:
    # As at the begin of a request; with DEBUG, a connection keeps all its queries until then.
    reset_queries()
    close_old_connections()


async def _close_in_thread() -> None:
    """Close the connections of the attempt's own thread, if it has one: the thread ends with the attempt."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not None and context in SyncToAsync.context_to_thread_executor:
        await sync_to_async(connections.close_all)()


@contextmanager
def _project_locale() -> Iterator[None]:
    zone = getattr(timezone._active, "value", None)
    timezone.deactivate()
    try:
        with translation.override(settings.LANGUAGE_CODE):
            yield
    finally:
        if zone is not None:
            timezone.activate(zone)
        else:
            timezone.deactivate()
