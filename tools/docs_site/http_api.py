"""The reference of the HTTP API: a list of the routes, and the page that each API serves at `/docs`, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from celeriac.json_text import write_bytes
from celeriac.settings import Settings
from celeriac_api.app import create_app
from celeriac_api.pages.assets import assets

#: Where the files of that page are: they look for the document at `../../openapi.json`.
_FOLDER = "reference/openapi"
REFERENCE = f"{_FOLDER}/docs.html"
_STATIC = "dashboard/static"
_FILES = (
    "docs.js",
    "api.js",
    "dom.js",
    "format.js",
    "text.js",
    "times.js",
    "ui.js",
    "theme.js",
    "base.css",
    "docs.css",
    "mark.svg",
    "texts/en.json",
    "texts/zh.json",
)
_METHODS = ("get", "post", "put", "patch", "delete")  # as docs.js has them
_TITLES = {"openai": "OpenAI"}
_HEAD = """# HTTP API

[The complete reference](openapi/docs.html) has the parameters, bodies, answers and a `curl` command of each route.
It is made from [openapi.json](openapi/openapi.json). Every API serves both, at `/docs` and `/openapi.json`.
"""


@cache
def _document() -> dict[str, Any]:
    return create_app(Settings(redis_url="redis://127.0.0.1:1/0")).openapi()


def files() -> Iterator[tuple[str, bytes]]:
    """Yield the name on the site and the content of each file."""
    yield f"{_FOLDER}/openapi.json", write_bytes(_document())
    # Here the page is not a part of an API: it has no answers to show, and leads back to the site.
    html = assets()["docs.html"].body.decode()
    marked = '<html lang="en" data-home="../http.html" data-server="http://127.0.0.1:8000/">'
    yield REFERENCE, html.replace('<html lang="en">', marked).encode()
    for name in _FILES:
        yield f"{_FOLDER}/{_STATIC}/{name}", assets()[name].body


@dataclass(frozen=True)
class Route:
    """A route of the document; `anchor` opens it in the reference, as docs.js names it."""

    method: str
    path: str
    summary: str
    tag: str

    @property
    def anchor(self) -> str:
        """The part of the address after `#`."""
        return f"{self.method}-{re.sub(r'[^A-Za-z0-9_]+', '-', self.path)}"


def routes() -> list[Route]:
    """Return all routes, in the order of the document."""
    return [
        Route(method, path, item[method].get("summary", ""), item[method]["tags"][0])
        for path, item in _document()["paths"].items()
        for method in _METHODS
        if method in item
    ]


def page() -> str:
    """Return the list of the routes."""
    info, tags = _document()["info"], _document()["tags"]
    parts = [_HEAD, f"{info['description']}\n"]
    for tag in tags:
        name, description = tag["name"], tag.get("description", "")
        parts.append(f"## {_TITLES.get(name, name.capitalize())}\n\n{description}\n\n| route | |\n| --- | --- |")
        for one in (route for route in routes() if route.tag == name):
            parts.append(f"| [`{one.method.upper()} {one.path}`](openapi/docs.html#{one.anchor}) | {one.summary} |")
        parts.append("")
    return "\n".join(parts)
