"""Requests that are answered when their task has ended: `?wait=30`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import Query
from pydantic import Field, TypeAdapter, ValidationError
from starlette.types import Receive

from celeriac.access.principal import Principal, PrincipalKind
from celeriac.errors import Violation
from celeriac.model import Outcome, Task
from celeriac.violations import plain_text
from celeriac_api.http.bodies import while_connected
from celeriac_api.http.problems import RequestError
from celeriac_api.parts import Parts

#: The answers of a route that waits.
DESCRIPTION: Final = (
    "Answer when the task has ended, at the latest after so many seconds (at most the setting `server.max_wait`): then "
    "with the state that the task is in."
)

#: A route's parameter of this type is how long it waits.
WaitQuery = Annotated[float, Query(ge=0, allow_inf_nan=False, description=DESCRIPTION, examples=[30])]

_SECONDS: Final[TypeAdapter[float]] = TypeAdapter(Annotated[float, Field(ge=0, allow_inf_nan=False)])


def wait_in(scope: Mapping[str, Any], most_s: float) -> float:
    """Return how long a request wants to wait (seconds), 0 if it does not; raises `RequestError`."""
    given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("wait")
    if given is None:
        return 0.0
    try:
        return within(_SECONDS.validate_python(given[-1]), most_s)
    except ValidationError as exc:
        raise _wrong(plain_text(exc.errors(include_url=False)[0])) from exc


def within(wait_s: float, most_s: float) -> float:
    """Return how long a request waits; raises `RequestError` for longer than it may."""
    if wait_s > most_s:
        raise _wrong(f"must be at most {most_s:g} (setting server.max_wait)")
    return wait_s


def place_of(caller: Principal) -> str | None:
    """Return whose places of those who wait a caller takes; None for callers that nobody tells apart."""
    return None if caller.kind is PrincipalKind.LOCAL else caller.name


async def ended(parts: Parts, task_id: str, wait_s: float, *, caller: Principal, receive: Receive) -> Task | Outcome:
    """Return a task when it has ended, or as it is after `wait_s`; perhaps only its outcome, if it has ended.

    Raises as `Tasks.find` does, `TooManyWaitersError`, `RequestError` for too long a wait, and `ClientGoneError`.
    """
    within(wait_s, parts.settings.server.max_wait)
    if not wait_s:
        return await parts.tasks.find(task_id)
    task = await _now(parts, task_id)
    if task.status.final:
        return task
    async with parts.ends.waiting(place_of(caller)) as wait:
        end = await while_connected(receive, wait.of(task_id, wait_s))
    return await _now(parts, task_id) if end is None else end


async def _now(parts: Parts, task_id: str) -> Task:
    """Return a task as it is, read with those that others wait for, of whom there may be thousands."""
    return await parts.ends.now(task_id) or await parts.tasks.find(task_id)


def _wrong(message: str) -> RequestError:
    return RequestError("invalid_request", f"wait: {message}", [Violation("wait", message)])
