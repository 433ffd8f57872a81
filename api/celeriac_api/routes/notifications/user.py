"""The user of a route that shows a user's own tasks: always by a credential, also if authentication is off."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends
from starlette.requests import HTTPConnection

from celeriac.access.authenticator import bearer
from celeriac.access.principal import Principal, PrincipalKind
from celeriac.errors import AuthenticationError
from celeriac_api.access.caller import PRINCIPAL
from celeriac_api.parts import parts_in

#: WebSocket clients that cannot set headers offer the subprotocols `celeriac` and `bearer.TOKEN`.
SUBPROTOCOL: Final = "celeriac"
_BEARER: Final = "bearer."


async def user_of(connection: HTTPConnection) -> Principal:
    """Return the user who calls; raises `AuthenticationError` without a valid credential of a user."""
    known: Principal | None = connection.scope.get(PRINCIPAL)
    if known is None or known.kind is PrincipalKind.LOCAL:
        credential = _credential(connection)
        if credential is None:
            raise AuthenticationError("this is a user's own: show a token (celeriac token --user ID)")
        known = await parts_in(connection.scope).authenticator.principal(credential)
    return a_user(known)


def a_user(principal: Principal) -> Principal:
    """Return the principal if it is a user; raises `AuthenticationError`."""
    if principal.user_id is None:
        raise AuthenticationError("this is a user's own, and the credential is of no user")
    return principal


def _credential(connection: HTTPConnection) -> str | None:
    header = connection.headers.get("authorization")
    if header is not None:
        return bearer(header)
    if (key := connection.headers.get("x-api-key")) is not None:
        return key
    if connection.scope["type"] != "websocket":
        return None
    for offered in connection.scope.get("subprotocols", ()):
        if offered.startswith(_BEARER):
            return str(offered).removeprefix(_BEARER)
    return connection.query_params.get("token") or None


#: A route's parameter of this type gets the user who calls.
UserOf = Annotated[Principal, Depends(user_of)]
