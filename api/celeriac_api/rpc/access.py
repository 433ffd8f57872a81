"""Who may call which method over gRPC: an interceptor ahead of every service, with its own table.

A credential comes as metadata: `authorization: Bearer TOKEN`, or `x-api-key`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import unquote

import grpc

from celeriac.access.authenticator import Authenticator, bearer
from celeriac.access.principal import LOCAL, Principal, Scope
from celeriac.errors import AuthenticationError, CeleriacError, ForbiddenError, RateLimitedError
from celeriac.settings import AccessSettings, ServerSettings
from celeriac.up.ports import host_of
from celeriac_api.access.checking import CredentialCheck
from celeriac_api.access.limits import Buckets, OpenCounts, check_rate, network_of, principal_buckets
from celeriac_api.rpc.failures import abort
from celeriac_api.rpc.handlers import guarded, watching

#: `/SERVICE/METHOD` → its scope; None admits every known caller. A method that is not here is refused.
METHODS: Final[Mapping[str, Scope | None]] = {
    "/task.TaskService/CreateTask": Scope.SUBMIT,
    "/task.TaskService/GetTaskStatus": Scope.READ,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": None,
}
#: Open to everybody, as `/healthz` is.
_OPEN: Final = "/grpc.health.v1.Health/"
_WATCH: Final = f"{_OPEN}Watch"

_caller: ContextVar[Principal | None] = ContextVar("caller", default=None)


def caller() -> Principal:
    """Return the caller; raises `AuthenticationError` if no interceptor has checked the call."""
    principal = _caller.get()
    if principal is None:
        raise AuthenticationError("show a credential first")
    return principal


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Admits a call after it has checked the caller and their scopes."""

    def __init__(
        self, access: AccessSettings, *, host: str, authenticator: Authenticator, limits: ServerSettings
    ) -> None:
        self._on = access.on
        self._open = Buckets(limits.open_rate, 2 * limits.open_rate)
        self._watches = OpenCounts(limits.max_health_watches_per_address)
        self._credentials = CredentialCheck(authenticator, failures_per_minute=access.failure_limit)
        self._proxies = [ip_network(proxy) for proxy in access.trusted_proxies]
        self._buckets = principal_buckets(access, host=host)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Return the method's handler, or one that checks the call first."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None:
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        if method == _WATCH:
            return watching(handler, partial(self._watch, metadata))
        admit = (
            partial(self._admit_stranger, metadata)
            if method.startswith(_OPEN)
            else partial(self._admit, method, metadata)
        )
        return guarded(handler, admit)

    async def _admit_stranger(self, metadata: Mapping[str, Any], context: Any) -> str:
        """Return the network of a call of an open method, or end the call with an error if there are too many."""
        network = network_of(self._address(metadata, context))
        try:
            check_rate(self._open, network, "too many calls from this address")
        except CeleriacError as exc:
            await abort(context, exc)
        return network

    @asynccontextmanager
    async def _watch(self, metadata: Mapping[str, Any], context: Any) -> AsyncIterator[None]:
        """Count a stream of `Health.Watch` while the block runs, or end the call with an error."""
        network = await self._admit_stranger(metadata, context)
        if not self._watches.enter(network):
            text = f"your address has {self._watches.limit} streams of Health.Watch open, which is the limit: close one"
            await abort(context, RateLimitedError(text, retry_after_s=5.0))
        try:
            yield
        finally:
            self._watches.leave(network)

    def _address(self, metadata: Mapping[str, Any], context: Any) -> str:
        return address_of(context.peer(), str(metadata.get("x-forwarded-for", "")), self._proxies)

    async def _admit(self, method: str, metadata: Mapping[str, Any], context: Any) -> None:
        """Remember the caller for the method, or end the call with an error."""
        try:
            principal = await self._principal(metadata, self._address(metadata, context))
            check_rate(self._buckets, principal.name, "too many calls")
            if self._on:
                if method not in METHODS:
                    raise ForbiddenError(f"{method} may not be called")
                if (scope := METHODS[method]) is not None:
                    principal.demand(scope)
        except CeleriacError as exc:
            await abort(context, exc)
        _caller.set(principal)

    async def _principal(self, metadata: Mapping[str, Any], address: str) -> Principal:
        header, key = metadata.get("authorization"), metadata.get("x-api-key")
        try:
            credential = bearer(str(header)) if header is not None else str(key) if key is not None else None
            if credential is None:
                if self._on:
                    raise AuthenticationError("show a credential: metadata authorization: Bearer TOKEN")
                return LOCAL
            return await self._credentials.principal(credential, address)
        except AuthenticationError:
            if self._on:
                raise
            return LOCAL


def address_of(peer: str, forwarded: str, proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the address that a call comes from: that of `peer`, which gRPC writes, or what a trusted proxy forwarded.

    If `forwarded` has several, it is the last one that is not a proxy itself, because a caller may have written the
    addresses before it.
    """
    kind, _, place = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    address = host_of(place)
    for hop in reversed([hop.strip() for hop in forwarded.split(",") if hop.strip()]):
        if not _among(address, proxies):
            break
        address = host_of(hop)
    return address


def _among(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        known = ip_address(address)
    except ValueError:
        return False
    # A server that listens on `::` sees its callers over IPv4 as `::ffff:10.0.0.7`.
    known = getattr(known, "ipv4_mapped", None) or known
    return any(known in network for network in networks)
