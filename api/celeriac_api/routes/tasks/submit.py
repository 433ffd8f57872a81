"""`POST /api/v1/tasks`, the hot route, as a plain ASGI application.

It runs ahead of FastAPI's routing and middleware: reading and checking a submission takes a few microseconds, and the
machinery around an ordinary route takes a hundred. `bench/submit.py` measures it. Its answers, problems included, are
those of an ordinary route.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from celeriac import json_text
from celeriac.errors import (
    CeleriacError,
    HistoryUnavailableError,
    JsonError,
    PayloadTooLargeError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from celeriac.model import Outcome, Submitted
from celeriac.store.watching.ends import EndWait
from celeriac.tasks.reasons import reason_records
from celeriac.tasks.record import outcome_record
from celeriac.tasks.request import IDEMPOTENCY_KEY, read_request
from celeriac_api.access.browsers import HEADERS as SECURITY_HEADERS
from celeriac_api.access.caller import principal_in
from celeriac_api.http.bodies import (
    ClientGoneError,
    RefusedBody,
    check_declared_size,
    is_json,
    read_body,
    while_connected,
)
from celeriac_api.http.problems import RequestError, instance_of, problem_of
from celeriac_api.parts import parts_in
from celeriac_api.routes.tasks.waiting import place_of, wait_in

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/tasks"

FIXED_HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    *SECURITY_HEADERS.items(),
]


async def submit(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request: 202 (201 with `wait`) for a new task, 200 for one that its key names, or a problem."""
    try:
        if scope["query_string"] and (wait_s := wait_in(scope, parts_in(scope).settings.server.max_wait)):
            await _answer_awaited(await _submit_and_wait(scope, receive, wait_s), scope, send)
            return
        submitted = await _submit(scope, receive)
    except ClientGoneError:
        return
    except PayloadTooLargeError as exc:
        await RefusedBody(problem_of(exc, instance_of(scope)))(scope, receive, send)
        return
    except CeleriacError as exc:
        await problem_of(exc, instance_of(scope))(scope, receive, send)
        return
    except Exception as exc:
        log.exception("a submission failed unexpectedly")
        await problem_of(exc, instance_of(scope))(scope, receive, send)
        return
    status, headers, body = answered(submitted, scope.get("root_path", ""))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def answered(submitted: Submitted, root_path: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the answer to a submission that was taken: status, headers and body."""
    task_id, status = submitted.task_id, submitted.status.wire
    if submitted.known_as or submitted.warnings:
        # The id may be anybody's choice, such as that of a Celery call.
        body = json_text.encode({"task_id": task_id, "status": status, **submitted.known_as, **warned(submitted)})
        task_id = quote(task_id, safe="")
    else:
        # Ids and statuses need no escaping: ours are UUIDs, and a repeated key returns an id made here.
        body = f'{{"task_id":"{task_id}","status":"{status}"}}'.encode()
    return 202 if submitted.created else 200, _headers(root_path, task_id, body), body


def _headers(root_path: str, quoted_id: str, body: bytes) -> list[tuple[bytes, bytes]]:
    location = f"{root_path}{PATH}/{quoted_id}".encode()
    return [*FIXED_HEADERS, (b"content-length", b"%d" % len(body)), (b"location", location)]


async def _submit_and_wait(scope: Scope, receive: Receive, wait_s: float) -> tuple[Submitted, Outcome]:
    parts, caller = parts_in(scope), principal_in(scope)
    async with parts.ends.waiting(place_of(caller)) as wait:
        submitted = await _submit(scope, receive, wait)
        end = await while_connected(receive, wait.after(submitted, wait_s))
    if end is None:
        # Accepted is accepted: a store that cannot be read just now does not make it a failure.
        with contextlib.suppress(StoreUnavailableError, HistoryUnavailableError, TaskNotFoundError):
            end = await parts.ends.now(submitted.task_id) or await parts.tasks.find(submitted.task_id)
    if end is None:
        return submitted, Outcome(submitted.task_id, submitted.status)
    return submitted, end if isinstance(end, Outcome) else Outcome.of(end)


async def _answer_awaited(found: tuple[Submitted, Outcome], scope: Scope, send: Send) -> None:
    submitted, outcome = found
    body = json_text.encode({**outcome_record(outcome), **submitted.known_as, **warned(submitted)})
    headers = _headers(scope.get("root_path", ""), quote(submitted.task_id, safe=""), body)
    await send({"type": "http.response.start", "status": 201 if submitted.created else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def warned(submitted: Submitted) -> dict[str, Any]:
    """Return the warnings of a submission; empty if there are none."""
    return {"warnings": reason_records(submitted.warnings)} if submitted.warnings else {}


async def _submit(scope: Scope, receive: Receive, wait: EndWait | None = None) -> Submitted:
    parts = parts_in(scope)
    limit = parts.settings.max_body_bytes
    idempotency_key = check_headers(scope["headers"], limit, scope)
    body = await read_body(receive, limit)
    try:
        document = json_text.read(body)
    except JsonError as exc:
        raise RequestError("malformed_json", f"the body is not JSON: {exc}") from exc
    request = read_request(document)
    return await parts.tasks.submit(request, caller=principal_in(scope), idempotency_key=idempotency_key, wait=wait)


def check_headers(headers: list[tuple[bytes, bytes]], limit: int, scope: Mapping[str, Any]) -> str | None:
    """Return the idempotency key; raises `RequestError` and `PayloadTooLargeError` if this cannot be a submission."""
    key: str | None = None
    content_type: bytes | None = None
    from_browser = False
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"idempotency-key":
            text = value.decode("latin-1")
            if key is not None or IDEMPOTENCY_KEY.fullmatch(text) is None:
                raise RequestError(
                    "invalid_header", "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters"
                )
            key = text
        elif name == b"origin":
            from_browser = True
    check_declared_size(scope, limit)
    # A page of another site can make a browser send anything but JSON without asking first, so only JSON is accepted. A
    # missing type counts as JSON if the request does not come from a browser.
    if content_type is None:
        if from_browser:
            raise RequestError("unsupported_media_type", "send Content-Type: application/json")
    elif content_type != b"application/json" and not is_json(content_type):
        essence = content_type.split(b";", 1)[0].strip().lower().decode("latin-1")
        raise RequestError(
            "unsupported_media_type",
            f"a submission is application/json, not {essence[:100] or 'nothing'}: send Content-Type: application/json",
        )
    return key
