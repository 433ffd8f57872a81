"""The dashboard's page with everything that it will need named in its head, so that no script waits for another one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from celeriac import json_text
from celeriac_api.pages.assets import Asset, asset, assets
from celeriac_api.pages.texts import LANGUAGES

_PAGE: Final = "index.html"
#: The script of the page, the one that fetches the first view's, and where the script's tag is in the page.
_SCRIPT: Final = "app.js"
_FIRST: Final = "first-view.js"
_TAG: Final = b'<script type="module"'
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
    found = assets()[_PAGE]
    views = json_text.write(view_modules())
    # First, so that the view's scripts do not wait for those of the frame.
    script = f'<script async fetchpriority="high" src="{_FOLDER}{_FIRST}" data-folder="{_FOLDER}"'
    links = [f"{script} data-views='{views}'></script>"]
    links += [f'<link rel="modulepreload" href="{_FOLDER}{name}">' for name in preloaded()]
    for fetched in (f"{_FOLDER}texts/{language}.json", "dashboard/session"):
        links.append(f'<link rel="preload" as="fetch" crossorigin href="{fetched}">')
    before, tag, rest = found.body.partition(_TAG)
    assert tag, f"{_PAGE} has no module"
    body = before + "\n".join([*links, ""]).encode() + tag + rest
    assert language in LANGUAGES
    return asset(body.replace(b'lang="en"', f'lang="{language}"'.encode(), 1), found.media_type)


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
