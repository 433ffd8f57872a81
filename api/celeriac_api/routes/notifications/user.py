"""The user of a route that shows a user's own tasks: always by a credential, also if authentication is off."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from celeriac.access.principal import Principal, PrincipalKind
from celeriac.errors import AuthenticationError
from celeriac_api.access.caller import PRINCIPAL


async def user_of(connection: HTTPConnection) -> Principal:
    """Return the user who calls; raises `AuthenticationError` without a valid credential of a user.

    The guard has found and checked the credential, wherever it was: the route has the access `own`.
    """
    known: Principal | None = connection.scope.get(PRINCIPAL)
    if known is None or known.kind is PrincipalKind.LOCAL:
        raise AuthenticationError("this is a user's own: show a token (celeriac token --user ID)")
    return a_user(known)


def a_user(principal: Principal) -> Principal:
    """Return the principal if it is a user; raises `AuthenticationError`."""
    if principal.user_id is None:
        raise AuthenticationError("this is a user's own, and the credential is of no user")
    return principal


#: A route's parameter of this type gets the user who calls.
UserOf = Annotated[Principal, Depends(user_of)]
