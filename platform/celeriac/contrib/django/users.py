"""On whose behalf tasks are submitted: the user of the request, so that the user sees the task, and how far it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

_REQUEST: Final[ContextVar[Any]] = ContextVar("celeriac_request", default=None)


class TaskUserMiddleware:
    """Gives tasks that are enqueued during a request the user who has signed in (`user_id`, the primary key).

    It belongs after `AuthenticationMiddleware`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Answer the request."""
        if iscoroutinefunction(self):
            return self._answer(request)
        before = _REQUEST.set(request)
        try:
            return self._get_response(request)
        finally:
            _REQUEST.reset(before)

    async def _answer(self, request: Any) -> Any:
        before = _REQUEST.set(request)
        try:
            answer: Awaitable[Any] = self._get_response(request)
            return await answer
        finally:
            _REQUEST.reset(before)


def current_user_id() -> str | None:
    """Return the id of the user of the present request; None outside of one, or if nobody has signed in."""
    user = getattr(_REQUEST.get(), "user", None)
    return str(user.pk) if user is not None and user.is_authenticated else None
