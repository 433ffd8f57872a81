"""What a route needs: each route declares it beside its path, `@router.get("/x", access=READ)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from celeriac.access.principal import Scope


@dataclass(frozen=True, slots=True)
class Access:
    """What a route needs. Without a `scope`, every known caller may use the route."""

    scope: Scope | None = None
    #: Nobody needs to be known.
    open: bool = False
    #: What the audit calls a request to this route; None keeps the requests out of the audit.
    action: str | None = None
    #: The answer goes on for long. The guard counts streams per principal, ends them with their credential, and accepts
    #: a token in the query, because browsers cannot set a header there.
    stream: bool = False
    #: It shows what belongs to the caller as a user. An invalid credential is refused, and counts as refused, even if
    #: authentication is off.
    own: bool = False
    #: A WebSocket that may connect without a credential and has to show one in its first message.
    first_message: bool = False
    #: A page: a browser without a credential is redirected to the sign-in page.
    page: bool = False
    #: Errors have the shape of the dispatch API (docs/dispatch.md): `{"error": TEXT}`.
    plain_errors: bool = False
    #: Errors have OpenAI's shape.
    openai_errors: bool = False

    def audited(self, action: str) -> Self:
        """Return the same, for a route whose requests the audit records as `action`."""
        return replace(self, action=action)


OPEN: Final = Access(open=True)
#: Every known caller.
KNOWN: Final = Access()
OWN: Final = Access(own=True)
READ: Final = Access(Scope.READ)
SUBMIT: Final = Access(Scope.SUBMIT)
ADMIN: Final = Access(Scope.ADMIN)
PAGE: Final = Access(Scope.READ, page=True)
STREAM: Final = Access(Scope.READ, stream=True)
