"""`POST /v1/chat/completions` and `GET /v1/models`: remote workers answer OpenAI clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from celeriac import json_text
from celeriac.errors import CeleriacError, KeyFullError, NoWorkerError, PayloadTooLargeError, QueueFullError
from celeriac.model import Status
from celeriac.store.watching.replies import CallEnd, Delta, Waiter
from celeriac_api.access.caller import principal_in
from celeriac_api.dispatch.calls import Call, CallerGoneError, RemoteCalls
from celeriac_api.dispatch.completions import (
    DONE,
    KEEPALIVE,
    ChatCall,
    choices_of,
    error_document,
    event,
    rest_of,
    usage_of,
)
from celeriac_api.dispatch.requests import InvalidCallError, read_cost, read_group, read_key, read_object, read_timeout
from celeriac_api.http.bodies import ClientGoneError, RefusedBody, read_body
from celeriac_api.http.problems import RequestError, retry_after_of, row_of
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.parts import parts_in
from celeriac_api.routes.tasks.submit import check_headers
from celeriac_api.routing import path_of

log = logging.getLogger(__name__)

CHAT_PATH: Final = "/v1/chat/completions"
MODELS_PATH: Final = "/v1/models"

#: The fields of the body that the server reads. All others go to the worker as `parameters`.
_OURS: Final = frozenset({"model", "messages", "stream_options", "group", "timeout", "key", "cost"})
_STREAM_HEADERS: Final = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}


async def serve_chat(scope: Scope, receive: Receive, send: Send) -> None:
    """Complete a chat."""
    if scope["method"] != "POST":
        refusal = _error("send a POST", "invalid_request_error", "method_not_allowed", 405, {"Allow": "POST"})
        await refusal(scope, receive, send)
        return
    try:
        await _chat(scope, receive, send)
    except (ClientGoneError, CallerGoneError):
        return
    except PayloadTooLargeError as exc:
        await RefusedBody(_error(str(exc), "invalid_request_error", exc.code, 413))(scope, receive, send)
    except Exception as exc:
        await _refusal(exc)(scope, receive, send)


async def serve_models(scope: Scope, receive: Receive, send: Send) -> None:
    """List the models, or answer with the one that the path names."""
    try:
        response = await _models(scope)
    except Exception as exc:
        response = _refusal(exc)
    await response(scope, receive, send)


async def _models(scope: Scope) -> Response:
    if scope["method"] != "GET":
        return _error("send a GET", "invalid_request_error", "method_not_allowed", 405, {"Allow": "GET, HEAD"})
    names = await parts_in(scope).models.names()
    one = path_of(scope).removeprefix(MODELS_PATH).strip("/")
    if not one:
        return json_response({"object": "list", "data": [_model(name, names[name]) for name in sorted(names)]})
    if one in names:
        return json_response(_model(one, names[one]))
    return _error(f"no connected worker announces the model {one!r}", "invalid_request_error", "model_not_found", 404)


async def _chat(scope: Scope, receive: Receive, send: Send) -> None:
    parts = parts_in(scope)
    calls, settings = parts.calls, parts.settings
    check_headers(scope["headers"], settings.max_body_bytes, scope)
    body = read_object(await read_body(receive, settings.max_body_bytes))
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise InvalidCallError("Invalid request: model must be a name")
    if not isinstance(messages, list) or not messages:
        raise InvalidCallError("Invalid request: messages must be an array with at least one message")
    timeout_ms = read_timeout(body.get("timeout"), settings.dispatch, settings.dispatch.chat_timeout_ms)
    to = await parts.models.find(model)
    group = to.group if body.get("group") is None else read_group(body["group"])
    payload: dict[str, Any] = {"model": to.model, "messages": messages}
    if parameters := {name: value for name, value in body.items() if name not in _OURS}:
        payload["parameters"] = parameters
    user_id = principal_in(scope).user_id
    key, cost = read_key(body.get("key")), read_cost(body.get("cost"))
    asked = calls.call(payload, group=group, timeout_ms=timeout_ms, user_id=user_id, key=key, cost=cost)
    call = ChatCall(asked.task_id, model, int(time.time()))
    if body.get("stream") is True:
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        await _stream(calls, asked, call, with_usage, scope, receive, send)
        return
    async with calls.waiting(asked, scope, receive) as waiter:
        outcome = await calls.outcome(asked, waiter)
    response = _failed(outcome)
    if response is None:
        response = json_response(call.completion(_result(outcome)), headers={"X-Task-Id": asked.task_id})
    await response(scope, receive, send)


async def _stream(
    calls: RemoteCalls,
    asked: Call,
    call: ChatCall,
    with_usage: bool,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Stream the completion. Before anything was sent, an error is an ordinary answer with its status."""
    parts: asyncio.Queue[Delta] = asyncio.Queue()
    async with calls.waiting(asked, scope, receive, parts.put_nowait) as waiter:
        begun = False
        async for chunk in _chunks(calls, asked, waiter, parts, call, with_usage):
            if not begun:
                if isinstance(chunk, Response):
                    await chunk({"type": "http"}, receive, send)
                    return
                begun = True
                headers = [(k.lower().encode(), v.encode()) for k, v in _STREAM_HEADERS.items()]
                headers.append((b"x-task-id", asked.task_id.encode()))
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            body = event(json_text.read(bytes(chunk.body))) if isinstance(chunk, Response) else chunk
            await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _chunks(
    calls: RemoteCalls,
    asked: Call,
    waiter: Waiter,
    parts: asyncio.Queue[Delta],
    call: ChatCall,
    with_usage: bool,
) -> AsyncIterator[bytes | Response]:
    """Yield the events of a stream, and an error as the response for a client that was sent nothing yet."""
    ending = asyncio.get_running_loop().create_task(calls.outcome(asked, waiter))
    sent: list[str] = []
    attempt = whole = 0
    begun = broken = False
    try:
        while True:
            part = await _next(parts, ending, calls.settings.sse_keepalive)
            if part is None and ending.done():
                break
            if part is None:
                yield KEEPALIVE
                continue
            # After a gap, or if another run began, only the end sends the rest, because what was sent cannot be taken
            # back. A task that was given back runs again, and its parts count from the beginning.
            if part.number != whole + 1 or (attempt and part.attempt != attempt):
                broken = True
            if broken:
                continue
            attempt, whole = part.attempt, part.number
            sent.append(part.content)
            yield call.chunk({"content": part.content} if begun else {"role": "assistant", "content": part.content})
            begun = True
        outcome = ending.result()
        if (failure := _failed(outcome)) is not None:
            yield failure
            return
        result = _result(outcome)
        for choice in choices_of(result):
            # What workers send while they run belongs to the first choice.
            first = choice["index"] == 0 and begun
            rest = rest_of(choice, "".join(sent) if first else "")
            index, logprobs = choice["index"], choice["logprobs"]
            if rest or not first:
                delta = rest if first else {"role": "assistant", "content": "", **rest}
                yield call.chunk(delta, index=index, logprobs=logprobs)
            yield call.chunk({}, choice["finish_reason"], index=index)
        if with_usage:
            yield call.usage_chunk(usage_of(result))
        yield DONE
    finally:
        ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ending


async def _next(parts: asyncio.Queue[Delta], ending: asyncio.Task[CallEnd], patience_s: float) -> Delta | None:
    """Return the next part, or None at the end and after a quiet while."""
    if not parts.empty():
        return parts.get_nowait()
    if ending.done():
        return None
    getting = asyncio.get_running_loop().create_task(parts.get())
    try:
        await asyncio.wait([getting, ending], timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        return None
    finally:
        getting.cancel()


def _result(outcome: CallEnd) -> Any:
    return json_text.read(outcome.text) if outcome.text else None


def _failed(outcome: CallEnd) -> Response | None:
    if outcome.status is Status.COMPLETED:
        return None
    # The work was done, or begun. The caller decides whether to repeat it, not its library.
    headers = {"x-should-retry": "false"}
    return _error(outcome.text or "the task failed", "server_error", outcome.code or None, 500, headers)


def _refusal(error: Exception) -> Response:
    match error:
        case InvalidCallError():
            return _error(str(error), "invalid_request_error", None, 400)
        case RequestError():
            return _error(str(error), "invalid_request_error", error.code, row_of(error).http)
        case NoWorkerError():
            return _error(f"No worker available: {error}", "server_error", error.code, 503)
        case QueueFullError():
            return _error(f"Queue is full: {error}", "server_error", error.code, 503)
        case KeyFullError():
            again = {"Retry-After": str(retry_after_of(error))}
            return _error(str(error), "rate_limit_error", error.code, 429, again)
        case CeleriacError() if row_of(error).http != 500:
            return _error(str(error), "server_error", error.code, row_of(error).http)
    log.error("a chat completion failed unexpectedly", exc_info=error)
    return _error("Internal error", "server_error", "internal", 500)


def _error(message: str, kind: str, code: str | None, status: int, headers: dict[str, str] | None = None) -> Response:
    return json_response(error_document(message, kind, code), status, headers)


def _model(name: str, group: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": group}
