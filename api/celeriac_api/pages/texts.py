"""The texts of pages that the server writes, from the catalogue that the scripts read too (`static/texts/`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from celeriac import json_text
from celeriac_api.access.credentials import LANGUAGE_COOKIE

#: What the languages that have a catalogue are called in themselves.
NAMES: Final = {"en": "English", "zh": "中文"}
#: Their codes; the first is for readers of other languages.
LANGUAGES: Final = tuple(NAMES)
#: The parameter by which a page without scripts is asked for in another language.
PARAMETER: Final = "language"
_KEPT_S: Final = 365 * 86_400

#: Further languages of a browser are not looked at.
_MOST_ACCEPTED: Final = 20
#: One language of `Accept-Language`, and how much it is wanted (RFC 9110, section 12.5.4).
_ACCEPTED: Final = re.compile(r"\s*([A-Za-z]{1,8})(?:-[\w-]*)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?", re.ASCII)


def language_of(request: Request) -> str:
    """Return the language of a reader: the chosen one, or the most wanted one of the browser that has a catalogue."""
    for chosen in (request.query_params.get(PARAMETER, ""), request.cookies.get(LANGUAGE_COOKIE, "")):
        if chosen in LANGUAGES:
            return chosen
    wanted: dict[str, float] = {}
    for tag in request.headers.get("accept-language", "").split(",", _MOST_ACCEPTED)[:_MOST_ACCEPTED]:
        if (found := _ACCEPTED.fullmatch(tag)) and (code := found[1].lower()) in LANGUAGES:
            wanted[code] = max(wanted.get(code, 0.0), float(found[2] or 1))
    best = max(wanted, key=lambda code: wanted[code], default=LANGUAGES[0])
    return best if wanted.get(best) else LANGUAGES[0]


def keep_language(request: Request, answer: Response) -> Response:
    """Have the browser keep the language that a page without scripts was asked for in, for all pages."""
    chosen = request.query_params.get(PARAMETER, "")
    if chosen in LANGUAGES:
        # As `text.js` sets it.
        path = f"{request.scope.get('root_path', '')}/"
        answer.set_cookie(LANGUAGE_COOKIE, chosen, max_age=_KEPT_S, path=path, samesite="lax")
    return answer


def text(language: str, key: str, /, **values: object) -> str:
    """Return the text of a key, as `t` of the scripts; values stand for `{name}` in it. It is text, not HTML."""
    return str(catalogue(language)[key]).format_map(values)


@cache
def catalogue(language: str) -> Mapping[str, Any]:
    """Return all texts of a language by their keys."""
    path = files("celeriac_api.pages") / "static" / "texts" / f"{language}.json"
    found: Mapping[str, Any] = json_text.read(path.read_bytes(), path.name)
    return found
