"""The method that a client of tus means, if its environment can only send others (tus 1.0, X-HTTP-Method-Override)."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from celeriac_api.routes.files.uploads import PATH
from celeriac_api.routing import path_of

HEADER: Final = b"x-http-method-override"


def with_meant_method(scope: Scope) -> Scope:
    """Return the scope of an HTTP request with the method that its header names, if it is for a resumable upload.

    Everything that follows sees this method: the guard demands its scope, and a page of another site may not send it.
    """
    path = path_of(scope)
    if not path.startswith(PATH) or path[len(PATH) : len(PATH) + 1] not in ("", "/"):
        return scope
    for name, value in scope["headers"]:
        if name == HEADER and (method := value.decode("latin-1").strip().upper()):
            return {**scope, "method": method[:20]}
    return scope
