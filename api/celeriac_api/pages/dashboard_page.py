"""The dashboard's page. Its head names all that it will need, and holds the scripts that run before that is fetched."""

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
#: The tag in whose place the page holds two scripts: the one that it names, and the one that fetches the first view.
_THEME: Final = "theme.js"
_FIRST: Final = "first-view.js"
_FOLDER: Final = "dashboard/static/"
_HELD: Final = f'<script src="{_FOLDER}{_THEME}"></script>'.encode()
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
    # Before the style sheets, for which scripts after them would wait.
    views = f"data-folder=\"{_FOLDER}\" data-views='{json_text.write(view_modules())}'"
    body = _parted(found.body, _HELD, b"", _held_script(_THEME) + b"\n" + _held_script(_FIRST, views))
    links = [f'<link rel="modulepreload" href="{_FOLDER}{name}">' for name in preloaded()]
    for fetched in (f"{_FOLDER}texts/{language}.json", "dashboard/session"):
        links.append(f'<link rel="preload" as="fetch" crossorigin href="{fetched}">')
    body = _parted(body, _TAG, _TAG, "\n".join([*links, ""]).encode())
    return asset(body.replace(b'lang="en"', f'lang="{language}"'.encode(), 1), found.media_type)


@cache
def held_scripts() -> str:
    """Return what a Content-Security-Policy calls the scripts that the page holds, so that they may run."""
    digests = (hashlib.sha256(assets()[name].body).digest() for name in (_THEME, _FIRST))
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def _held_script(name: str, about: str = "") -> bytes:
    body = assets()[name].body
    assert b"</script" not in body, f"{name} would end its own element"
    return f"<script{about and ' '}{about}>".encode() + body + b"</script>"


def _parted(page: bytes, tag: bytes, instead: bytes, before: bytes) -> bytes:
    """Return the page with something before a tag, and `instead` of it."""
    head, found, rest = page.partition(tag)
    assert found, f"{_PAGE} has no {tag.decode()}"
    return head + before + instead + rest


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
