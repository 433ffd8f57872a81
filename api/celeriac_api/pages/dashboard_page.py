"""The dashboard's page. Its head holds what is needed before anything is drawn, and names scripts.

Style sheets, texts and the scripts that run first are a part of the page, because each file that a browser fetches
costs more than its bytes. Other pages fetch the same files.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from typing import Final

from celeriac import json_text
from celeriac_api.pages.assets import Asset, asset, assets
from celeriac_api.pages.texts import LANGUAGES

_PAGE: Final = "index.html"
#: The script of the page, and where its tag is.
_SCRIPT: Final = "app.js"
_TAG: Final = b'<script type="module"'
#: What the page names, and holds itself: a script, with the one that fetches the first view after it; and styles.
_THEME: Final = "theme.js"
_FIRST: Final = "first-view.js"
_STYLES: Final = ("base.css", "app.css")
_FOLDER: Final = "dashboard/static/"
#: A section of the page: its path, its view, and the view of one thing of it.
_SECTION: Final = re.compile(
    rb'\{ path: "(\w+)".* view: \(\) => import\("\./([^"]+)"\)(?:, one: \(\) => import\("\./([^"]+)"\))?'
)
#: `import { a, b } from "./c.js"`, also over several lines; not `import("./c.js")`.
_IMPORT: Final = re.compile(rb'^(?:import|export)\b[^";()]*"(\.[^"]+)"', re.MULTILINE)


@cache
def dashboard_page(language: str) -> Asset:
    """Return the page for readers of a language. It is made from the files as they are, so it names no other."""
    assert language in LANGUAGES
    found = assets()[_PAGE]
    body = found.body.replace(b'lang="en"', f'lang="{language}"'.encode(), 1)
    views = f"data-folder=\"{_FOLDER}\" data-views='{json_text.write(view_modules())}'"
    scripts = _held("script", _THEME) + b"\n" + _held("script", _FIRST, views)
    body = _with(body, f'<script src="{_FOLDER}{_THEME}"></script>'.encode(), scripts)
    for name in _STYLES:
        body = _with(body, f'<link rel="stylesheet" href="{_FOLDER}{name}">'.encode(), _held("style", name))
    links = [f'<link rel="modulepreload" href="{_FOLDER}{name}">' for name in preloaded()]
    about = f'type="application/json" id="texts" lang="{language}"'
    links.append(_held("script", f"texts/{language}.json", about).decode())
    return asset(_with(body, _TAG, "\n".join([*links, ""]).encode() + _TAG), found.media_type)


@cache
def page_policy(policy: str) -> str:
    """Return a Content-Security-Policy that lets the page have the scripts and styles that it holds."""
    for kind, names in (("script-src 'self'", (_THEME, _FIRST)), ("style-src 'self'", _STYLES)):
        digests = (hashlib.sha256(assets()[name].body).digest() for name in names)
        hashes = (f"'sha256-{b64encode(digest).decode()}'" for digest in digests)
        assert kind in policy
        policy = policy.replace(kind, " ".join((kind, *hashes)))
    return policy


def _held(element: str, name: str, about: str = "") -> bytes:
    body = assets()[name].body
    assert b"</" not in body, f"{name} could end its own element"
    return f"<{element}{about and ' '}{about}>".encode() + body + f"</{element}>".encode()


def _with(page: bytes, tag: bytes, instead: bytes) -> bytes:
    head, found, rest = page.partition(tag)
    assert found, f"{_PAGE} has no {tag.decode()}"
    return head + instead + rest


def preloaded() -> list[str]:
    """Return what is fetched whatever the page shows: what its script imports."""
    return modules(_SCRIPT)


def view_modules() -> dict[str, list[str]]:
    """Return what each view needs beside that; the view of one thing of a section has a `/` after its path."""
    found = {}
    for path, view, one in _SECTION.findall(assets()[_SCRIPT].body):
        for name, script in ((path.decode(), view.decode()), (f"{path.decode()}/", one.decode())):
            if script:
                found[name] = [each for each in [script, *modules(script)] if each not in (_SCRIPT, *preloaded())]
    return found


def modules(script: str) -> list[str]:
    """Return what a script imports, and what that imports, each once and in the order in which it is found."""
    found = [script]
    for name in found:
        found += [imported for imported in imports(name) if imported not in found]
    return found[1:]


def imports(script: str) -> Iterator[str]:
    """Yield the paths of the scripts that a script names in its imports."""
    for path in dict.fromkeys(_IMPORT.findall(assets()[script].body)):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(script), path.decode()))
