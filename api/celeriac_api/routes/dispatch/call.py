"""`POST /api/openai`, as a plain ASGI application for the same reason as `POST /api/v1/tasks`."""

from __future__ import annotations

import logging
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from celeriac.access.principal import Principal
from celeriac.errors import (
    CeleriacError,
    GroupLimitError,
    KeyFullError,
    NoWorkerError,
    PayloadTooLargeError,
    QueueFullError,
)
from celeriac.model import Status
from celeriac.store.watching.replies import CallEnd
from celeriac_api.access.caller import principal_in
from celeriac_api.dispatch.calls import Call, CallerGoneError, RemoteCalls
from celeriac_api.dispatch.requests import DispatchCall, InvalidCallError, read_call, read_object
from celeriac_api.http.bodies import ClientGoneError, RefusedBody, read_body
from celeriac_api.http.problems import RequestError, retry_after_of, row_of
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.parts import parts_in
from celeriac_api.routes.tasks.submit import check_headers

log = logging.getLogger(__name__)

PATH: Final = "/api/openai"


async def serve_call(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one call with its result, its id or an error."""
    if scope["method"] != "POST":
        await error_response("Method not allowed: POST", 405, {"Allow": "POST"})(scope, receive, send)
        return
    answer = await _answer(scope, receive)
    if isinstance(answer, bytes):
        answer = Response(answer, 200, HEADERS, media_type="application/json")
    if answer is not None:
        await answer(scope, receive, send)


async def _answer(scope: Scope, receive: Receive) -> bytes | Response | None:
    """Return the JSON of a result, or another answer; None if nobody is there to read one."""
    try:
        return await _call(scope, receive)
    except (ClientGoneError, CallerGoneError):
        return None
    except PayloadTooLargeError as exc:
        return RefusedBody(error_response(str(exc), 413, {"Connection": "close"}))
    except Exception as exc:
        return refusal_of(exc)


async def _call(scope: Scope, receive: Receive) -> bytes | Response:
    parts, caller = parts_in(scope), principal_in(scope)
    calls, limit = parts.calls, parts.settings.max_body_bytes
    check_headers(scope["headers"], limit, scope)
    document = read_object(await read_body(receive, limit))
    call = read_call(document, parts.settings.dispatch)
    asked = asked_of(calls, call, caller)
    if call.answer_at_once:
        await calls.submit(asked)
        return json_response({"taskId": asked.task_id, "status": "queued"})
    async with calls.waiting(asked, scope, receive) as waiter:
        return ended(asked.task_id, await calls.outcome(asked, waiter))


def asked_of(calls: RemoteCalls, call: DispatchCall, caller: Principal) -> Call:
    """Return what a call asks for; raises as `RemoteCalls.call`."""
    return calls.call(
        call.payload,
        group=call.group,
        timeout_ms=call.timeout_ms,
        priority=call.priority,
        max_retries=call.max_retries,
        # Only an admin can act for another user.
        user_id=(call.user_id or caller.user_id) if caller.admin else caller.user_id,
        key=call.key,
        cost=call.cost,
        waits=not call.answer_at_once,
    )


def ended(task_id: str, outcome: CallEnd) -> bytes | Response:
    """Return the answer to a caller who has waited: the JSON of a result, or an error."""
    if outcome.status is not Status.COMPLETED:
        return error_response(outcome.text or "Task failed", 500)
    # The result is JSON already.
    return f'{{"taskId":"{task_id}","status":"completed","result":{outcome.text or "null"}}}'.encode()


def refusal_of(error: Exception) -> Response:
    """Return the answer to a call that did not become a task, with a text of the dispatch API if it has one."""
    match error:
        case InvalidCallError():
            return error_response(str(error), 400)
        case RequestError():
            return error_response(f"Invalid request: {error}", 400)
        case NoWorkerError():
            return error_response("No worker available", 503)
        case QueueFullError() | GroupLimitError():
            return error_response("Queue is full", 503)
        case KeyFullError():
            return error_response(str(error), 429, {"Retry-After": str(retry_after_of(error))})
        case CeleriacError() if row_of(error).http != 500:
            return error_response(str(error), row_of(error).http)
    log.error("a call failed unexpectedly", exc_info=error)
    return error_response("Internal error", 500)


def error_response(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an error in the shape of the dispatch API."""
    return json_response({"error": text}, status, headers)
