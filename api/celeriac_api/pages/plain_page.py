"""Small pages without scripts, for people who have not signed in: their style, headers and frame."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from html import escape
from typing import Final

from starlette.responses import Response

from celeriac_api.pages.texts import NAMES, PARAMETER, text

_STYLE: Final = """
:root{color-scheme:light dark;font:15px/1.5 ui-sans-serif,system-ui,sans-serif}
body{display:grid;place-items:center;min-height:100vh;margin:0;background:Canvas;color:CanvasText}
main{box-sizing:border-box;width:min(24rem,calc(100vw - 2rem));padding:2rem;border-radius:14px;
border:1px solid color-mix(in srgb,CanvasText 14%,Canvas)}
h1{font-size:1.4rem;margin:0 0 .25rem}
p{margin:0 0 1.25rem;opacity:.75}
p,h1{overflow-wrap:anywhere}
label,legend{display:block;font-weight:600;margin-bottom:.35rem}
small{font-weight:400;opacity:.75}
input,select,textarea{box-sizing:border-box;width:100%;font:inherit;padding:.6rem .7rem;
border:1px solid color-mix(in srgb,CanvasText 28%,Canvas);
background:Canvas;color:CanvasText;border-radius:.5rem}
fieldset{border:0;padding:0;margin:0}
.box{font-weight:400}
.box input{width:auto}
:is(input,select,textarea,fieldset,.about)+:is(label,fieldset){margin-top:1rem}
.about{font-size:.9rem;margin:.25rem 0 0}
button{font:inherit;font-weight:600;width:100%;margin-top:1rem;padding:.6rem;border:0;border-radius:.5rem;
background:#5147d9;color:#fff;cursor:pointer}
:is(input,select,textarea,button):focus-visible{outline:2px solid #7d75f0;outline-offset:2px}
.languages{display:flex;gap:.25rem;justify-content:flex-end;margin:-1rem -1rem .5rem 0}
.languages button{width:auto;margin:0;padding:.25rem .6rem;background:none;color:inherit;
font-size:.85rem;font-weight:400}
.languages button[aria-pressed=true]{background:color-mix(in srgb,CanvasText 10%,Canvas)}
.foot{margin:1.25rem 0 0;font-size:.9rem}
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
ul.error{list-style:none;margin:0 0 1.25rem;padding:0}
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


def plain_page(title: str, body: str, status: int, language: str, *, following: str | None = None) -> Response:
    """Return a page; `body` is HTML, `title` is text. `following` is its parameter `next`, which a switch keeps."""
    # A form, because browsers keep what follows `#` in the address of a form, and not in that of a link.
    kept = "" if following is None else f'<input type="hidden" name="next" value="{escape(following, quote=True)}">'
    languages = "".join(
        f'<button name="{PARAMETER}" value="{code}" lang="{code}" aria-pressed="{str(code == language).lower()}">{name}'
        "</button>"
        for code, name in NAMES.items()
    )
    switch = (
        '<form method="get">'
        f'<div class="languages" role="group" aria-label="{escape(text(language, "frame.language"))}">'
        f"{kept}{languages}</div></form>"
    )
    page = f"""<!doctype html>
<html lang="{language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex"><title>{escape(title)} · Celeriac</title><style>{_STYLE}</style>
<main>{switch}{body}</main></html>
"""
    return Response(page, status, _HEADERS, media_type="text/html")
