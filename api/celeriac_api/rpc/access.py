"""Who may call what over gRPC: an interceptor ahead of every service, with a table of its own.

A credential comes as metadata: `authorization: Bearer TOKEN`, or `x-api-key`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import grpc

from celeriac.access.authenticator import Authenticator, bearer
from celeriac.access.principal import LOCAL, Principal, Scope
from celeriac.errors import AuthenticationError, CeleriacError, ForbiddenError
from celeriac.local.ports import is_loopback
from celeriac.settings import Settings
from celeriac_api.access.limits import Buckets, check_rate
from celeriac_api.rpc.failures import abort

#: `/SERVICE/METHOD` → its scope; None is for whoever is known. What is not here is refused.
METHODS: Final[Mapping[str, Scope | None]] = {
    "/task.TaskService/CreateTask": Scope.SUBMIT,
    "/task.TaskService/GetTaskStatus": Scope.READ,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": None,
}
#: Open to everybody, as `/healthz` is.
_OPEN: Final = "/grpc.health.v1.Health/"

_caller: ContextVar[Principal | None] = ContextVar("caller", default=None)


def caller() -> Principal:
    """Return who calls; raises `AuthenticationError` where no interceptor has looked."""
    principal = _caller.get()
    if principal is None:
        raise AuthenticationError("show a credential first")
    return principal


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call through once it is known who makes it, and that they may."""

    def __init__(self, settings: Settings, authenticator: Authenticator) -> None:
        self._on = settings.access.on
        self._authenticator = authenticator
        rate = settings.access.rate_limit
        if rate is None:
            rate = 0.0 if not self._on and is_loopback(settings.host) else 1000.0
        self._buckets = Buckets(rate, 2 * rate) if rate else None

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Return the method's handler, or one that refuses."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_OPEN):
            return handler
        try:
            _caller.set(await self._admitted(method, dict(handler_call_details.invocation_metadata or ())))
        except CeleriacError as exc:
            return _refusing(handler, exc)
        return handler

    async def _admitted(self, method: str, metadata: Mapping[str, Any]) -> Principal:
        principal = await self._principal(metadata)
        check_rate(self._buckets, principal.name, "too many calls")
        if self._on:
            if method not in METHODS:
                raise ForbiddenError(f"nobody may call {method}")
            if (scope := METHODS[method]) is not None:
                principal.demand(scope)
        return principal

    async def _principal(self, metadata: Mapping[str, Any]) -> Principal:
        header, key = metadata.get("authorization"), metadata.get("x-api-key")
        try:
            credential = bearer(str(header)) if header is not None else str(key) if key is not None else None
            if credential is None:
                if self._on:
                    raise AuthenticationError("show a credential: metadata authorization: Bearer TOKEN")
                return LOCAL
            return await self._authenticator.principal(credential)
        except AuthenticationError:
            if self._on:
                raise
            return LOCAL


def _refusing(handler: Any, error: CeleriacError) -> Any:
    """Return a handler of the same kind as `handler` that ends each call with `error`."""

    async def refuse(_: Any, context: Any) -> Any:
        await abort(context, error)

    async def refuse_stream(_: Any, context: Any) -> Any:
        await abort(context, error)
        yield

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    answer: Any = refuse_stream if handler.response_streaming else refuse
    return make(answer, handler.request_deserializer, handler.response_serializer)
