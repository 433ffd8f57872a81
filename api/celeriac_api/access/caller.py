"""The caller of a route: who it is, and from which address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import HTTPConnection

from celeriac.access.principal import Principal
from celeriac.errors import AuthenticationError

#: Where the guard leaves the principal in a connection's scope.
PRINCIPAL: Final = "celeriac.principal"


def principal_in(scope: Mapping[str, Any]) -> Principal:
    """Return the caller; raises `AuthenticationError` for a WebSocket that has not shown its credential yet."""
    principal: Principal | None = scope.get(PRINCIPAL)
    if principal is None:
        raise AuthenticationError("show a credential first")
    return principal


async def caller_of(connection: HTTPConnection) -> Principal:
    """Return the caller."""
    return principal_in(connection.scope)


def address_of(scope: Mapping[str, Any]) -> str:
    """Return the address that a connection comes from, or an empty text; see the setting `access.trusted_proxies`."""
    client = scope.get("client")
    return client[0] if client else ""


#: A route's parameter of this type gets the caller.
CallerOf = Annotated[Principal, Depends(caller_of)]
