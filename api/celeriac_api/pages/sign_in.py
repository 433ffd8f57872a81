"""`/sign-in`: a browser shows a credential once and keeps it in a cookie that no script can read.

The cookie is HttpOnly, SameSite=Strict and, with TLS, Secure. It holds the credential itself, so every API process
accepts it and none keeps a session. What a cookie alone may do depends on the page that asks (see `browsers.py`).
"""

from __future__ import annotations

import time
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
from celeriac_api.pages.plain_page import plain_page
from celeriac_api.pages.texts import keep_language, language_of, text
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(include_in_schema=False)

_MAX_AGE_S: Final = 30 * 86_400
#: What is longer leads to its beginning (characters).
_LONGEST_NEXT: Final = 2000
#: How an operator makes a credential.
_COMMANDS: Final = {"for_user": "token --user NAME", "for_program": "keys create NAME"}


@router.get(SIGN_IN, access=OPEN)
async def show(request: Request) -> Response:
    """Show the form."""
    return keep_language(request, _page(language_of(request), request.query_params.get("next", "")))


@router.post(SIGN_IN, access=OPEN)
async def sign_in(request: Request, parts: PartsOf) -> Response:
    """Check the credential and keep it in the cookie."""
    # The front door bounds the body and the time that it may take, as on every open route.
    language = language_of(request)
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    credential, following = form.get("credential", [""])[0].strip(), form.get("next", [""])[0]
    try:
        if not credential:
            raise AuthenticationError(text(language, "signin.empty"))
        if not fits_cookie(credential):
            raise AuthenticationError(text(language, "signin.characters"))
        principal = await parts.credentials.principal(credential, address_of(request.scope))
        if parts.settings.access.on:
            # Without this scope every page would answer 403, and the user could not sign in again.
            principal.demand(Scope.READ)
    except CeleriacError as exc:
        return _page(language, following, str(exc), row_of(exc).http)
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


def _page(language: str, following: str, error: str = "", status: int = 200) -> Response:
    following = following[:_LONGEST_NEXT]
    said = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    commands = {name: f"<code>celeriac {words}</code>" for name, words in _COMMANDS.items()}
    # The text is escaped before the commands come into it.
    how = escape(text(language, "signin.how", for_user="{for_user}", for_program="{for_program}")).format_map(commands)
    # The form has no action, so it goes to the address of the page. Browsers keep what follows `#` through the
    # redirect, so a user who asked for one task gets to it.
    body = f"""<h1>Celeriac</h1>{said}<p>{escape(text(language, "signin.hint"))}</p>
<form method="post">
<label for="credential">{escape(text(language, "signin.credential"))}</label>
<input id="credential" name="credential" type="password" autocomplete="current-password" required autofocus
 aria-describedby="how">
<input type="hidden" name="next" value="{escape(following, quote=True)}">
<button>{escape(text(language, "signin.title"))}</button></form>
<p class="foot" id="how">{how}</p>"""
    return plain_page(text(language, "signin.title"), body, status, language, following=following)
