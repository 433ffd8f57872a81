"""`/sign-in`: a browser shows a credential once and keeps it in a cookie that no script can read.

The cookie is HttpOnly, SameSite=Strict and, with TLS, Secure. It holds the credential itself, so every API process
accepts it and none keeps a session. What a cookie alone may do depends on the page that asks (see `browsers.py`).
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from html import escape
from typing import Final
from urllib.parse import parse_qs

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from celeriac.access.principal import Principal, Scope
from celeriac.errors import AuthenticationError, CeleriacError
from celeriac_api.access.caller import address_of
from celeriac_api.access.credentials import COOKIE, fits_cookie
from celeriac_api.access.rights import OPEN
from celeriac_api.guard import SIGN_IN
from celeriac_api.http.problems import row_of
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(include_in_schema=False)

_MAX_AGE_S: Final = 30 * 86_400

_STYLE: Final = """
:root{color-scheme:light dark;font:15px/1.5 ui-sans-serif,system-ui,sans-serif}
body{display:grid;place-items:center;min-height:100vh;margin:0;background:Canvas;color:CanvasText}
main{box-sizing:border-box;width:min(24rem,calc(100vw - 2rem));padding:2rem;border-radius:14px;
border:1px solid color-mix(in srgb,CanvasText 14%,Canvas)}
h1{font-size:1.4rem;margin:0 0 .25rem}
p{margin:0 0 1.25rem;opacity:.75}
label{display:block;font-weight:600;margin-bottom:.35rem}
input{box-sizing:border-box;width:100%;font:inherit;padding:.6rem .7rem;
border:1px solid color-mix(in srgb,CanvasText 28%,Canvas);
background:Canvas;color:CanvasText;border-radius:.5rem}
button{font:inherit;font-weight:600;width:100%;margin-top:1rem;padding:.6rem;border:0;border-radius:.5rem;
background:#5147d9;color:#fff;cursor:pointer}
input:focus-visible,button:focus-visible{outline:2px solid #7d75f0;outline-offset:2px}
.error{color:#b3261e;color:light-dark(#b3261e,#ff8186);opacity:1;font-weight:600}
"""
_DIGEST: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # Without any referrer, browsers send the form with the origin "null".
    "Referrer-Policy": "same-origin",
}


@router.get(SIGN_IN, access=OPEN)
async def show(request: Request) -> Response:
    """Show the form."""
    return _page(request.query_params.get("next", ""))


@router.post(SIGN_IN, access=OPEN)
async def sign_in(request: Request, parts: PartsOf) -> Response:
    """Check the credential and keep it in the cookie."""
    # The front door bounds the body and the time that it may take, as on every open route.
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    credential, following = form.get("credential", [""])[0].strip(), form.get("next", [""])[0]
    try:
        if not credential:
            raise AuthenticationError("paste a token or an API key")
        if not fits_cookie(credential):
            raise AuthenticationError("this is not a token or an API key: it has other characters, or it is too long")
        principal = await parts.credentials.principal(credential, address_of(request.scope))
        if parts.settings.access.on:
            # Without this scope every page would answer 403, and the user could not sign in again.
            principal.demand(Scope.READ)
    except CeleriacError as exc:
        return _page(following, str(exc), row_of(exc).http)
    answer = RedirectResponse(_target(request, following), 303, headers={"Cache-Control": "no-store"})
    answer.set_cookie(
        COOKIE,
        credential,
        max_age=_lifetime_s(principal),
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out", access=OPEN)
async def sign_out(request: Request) -> Response:
    """Forget the credential."""
    answer = RedirectResponse(f"{request.scope.get('root_path', '')}{SIGN_IN}", 303)
    answer.delete_cookie(COOKIE, path=request.scope.get("root_path", "") or "/", httponly=True, samesite="strict")
    return answer


def _lifetime_s(principal: Principal) -> int:
    if principal.expires_at is None:
        return _MAX_AGE_S
    return max(1, min(_MAX_AGE_S, int(principal.expires_at - time.time())))


def _target(request: Request, following: str) -> str:
    """Return where to go after signing in: a path of this server, never another site."""
    ours = following.startswith("/") and not following.startswith(("//", "/\\")) and following.isprintable()
    return f"{request.scope.get('root_path', '')}{following if ours else '/dashboard'}"


def _page(following: str, error: str = "", status: int = 200) -> Response:
    said = (
        f'<p class="error" role="alert">{escape(error)}</p>'
        if error
        else "<p>Paste a token or an API key to see your tasks.</p>"
    )
    # The form has no action, so it goes to the address of the page. Browsers keep what follows `#` through the
    # redirect, so a user who asked for one task gets to it.
    body = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Sign in · Celeriac</title><style>{_STYLE}</style>
<main><h1>Celeriac</h1>{said}
<form method="post">
<label for="credential">Credential</label>
<input id="credential" name="credential" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="next" value="{escape(following[:2000], quote=True)}">
<button>Sign in</button></form></main></html>
"""
    return Response(body, status, _HEADERS, media_type="text/html")
