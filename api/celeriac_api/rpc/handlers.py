"""Handlers of gRPC methods that admit a call before they read its request: decoding takes time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc

from celeriac_api.http.problems import RequestError
from celeriac_api.rpc.failures import abort

log = logging.getLogger(__name__)


def guarded(handler: Any, admit: Callable[[Any], Awaitable[object]]) -> Any:
    """Return a handler of the same kind as `handler` that serves calls once `admit` has let them through."""
    decode = handler.request_deserializer

    async def serve(request: Any, context: Any) -> Any:
        await admit(context)
        if handler.request_streaming:
            return await handler.stream_unary(_decoded(decode, request, context), context)
        return await handler.unary_unary(await _read(decode, request, context), context)

    async def serve_stream(request: Any, context: Any) -> Any:
        await admit(context)
        if handler.request_streaming:
            answers = handler.stream_stream(_decoded(decode, request, context), context)
        else:
            answers = handler.unary_stream(await _read(decode, request, context), context)
        async for answer in answers:
            yield answer

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    served: Any = serve_stream if handler.response_streaming else serve
    return make(served, None, handler.response_serializer)


def watching(handler: Any, place: Callable[[Any], AbstractAsyncContextManager[None]]) -> Any:
    """Return a handler of `Health.Watch`, which writes its answers by itself, that holds a place while it runs."""

    async def watch(request: Any, context: Any) -> None:
        async with place(context):
            await handler.unary_stream(await _read(handler.request_deserializer, request, context), context)

    return grpc.unary_stream_rpc_method_handler(watch, None, handler.response_serializer)


async def _decoded(decode: Callable[[bytes], Any], requests: Any, context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield await _read(decode, request, context)


async def _read(decode: Callable[[bytes], Any], request: bytes, context: Any) -> Any:
    """Return a request, or end the call with `INVALID_ARGUMENT`."""
    try:
        return decode(request)
    except Exception as exc:
        # Strangers may send anything, so this is not worth a line in the log of a healthy server.
        log.debug("a message of %s cannot be read: %s", context.peer(), exc)
        await abort(context, RequestError("invalid_request", "the message is not of the type that the method takes"))
