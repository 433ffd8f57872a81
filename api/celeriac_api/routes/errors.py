"""Errors: failures for good, grouped by type, code and normalised message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import StringConstraints
from starlette.responses import Response

from celeriac.database.cursor import BadCursorError
from celeriac.error_filter import DEFAULT_ERRORS, MAX_ERRORS, ErrorFilter, ErrorSort
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.history.error_list import error_span, errors_record
from celeriac.moments import Moment
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import ErrorGroups
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["history"])

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Words = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


@router.get(
    "/errors",
    access=READ,
    summary="List errors",
    description="The tasks that failed for good, grouped: failures of one type with the same code and the same message "
    "are one group, whatever ids, numbers, quoted values, addresses, paths and times the message names. Says how many "
    "failed in the span of time (`failures`, by default of the last day), when, and how many of them are dead letters "
    "now (`dead`); the others were retried. Pass `error_group` to `/tasks` or `/bulk` to see or retry them.",
    response_model=ErrorGroups,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def list_errors(
    parts: PartsOf,
    caller: CallerOf,
    start: Annotated[Moment | None, Query(alias="from", description="Failures at this moment or later.")] = None,
    end: Annotated[
        Moment | None, Query(alias="to", description="Failures before this moment; now if left out.")
    ] = None,
    type: Annotated[_Name | None, Query(description="Only tasks of this type.")] = None,
    queue: Annotated[_Name | None, Query(description="Only tasks of this group.")] = None,
    user_id: Annotated[_Name | None, Query(description="Only tasks of this user.")] = None,
    key: Annotated[_Name | None, Query(description="Only tasks with this key.")] = None,
    error_group: Annotated[_Name | None, Query(description="Only this group.")] = None,
    q: Annotated[_Words | None, Query(description="A part of the code or of the message, in any case.")] = None,
    sort: Annotated[ErrorSort, Query(description="The latest failure first, or the most failures.")] = ErrorSort.LAST,
    limit: Annotated[int, Query(ge=1, le=MAX_ERRORS, description="Groups per page.")] = DEFAULT_ERRORS,
    cursor: Annotated[
        str | None,
        Query(max_length=1000, description="The `next_cursor` of the previous page, with the same parameters."),
    ] = None,
) -> Response:
    """Answer with a page of groups."""
    try:
        span = error_span(start, end or datetime.now(UTC))
    except InvalidSubmissionError as exc:
        raise RequestError("invalid_request", str(exc), exc.violations) from exc
    wanted = ErrorFilter(
        type=type,
        queue=queue,
        user_id=user_id if caller.admin else caller.own_user,
        key=key,
        q=q,
        error_group=error_group,
    )
    try:
        page = await parts.history.errors(span, wanted, sort=sort, limit=limit, cursor=cursor)
    except BadCursorError as exc:
        raise RequestError("invalid_request", f"cursor: {exc}", [Violation("cursor", str(exc))]) from exc
    return json_response(errors_record(span, page))
