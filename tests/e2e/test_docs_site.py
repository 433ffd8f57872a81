"""The documentation as a site: it is built without a warning, its links lead somewhere, and it asks no other server."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.kit.command_line import REPOSITORY
from tools.docs_site import python_api
from tools.docs_site.http_api import REFERENCE, routes

_LINK = re.compile(r'<(\w+)[^>]*?\s(?:href|src)="?([^"\s>]+)')
_ID = re.compile(r'\s(?:id|name)="?([^"\s>]+)')
#: What is written as text in a page: it is not a link of the page.
_TEXT = re.compile(r"<(pre|script)\b.*?</\1>", re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    handler = partial(_QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def pages_of(site: Path) -> dict[str, str]:
    """Return all pages by their names."""
    return {str(path.relative_to(site)): path.read_text("utf-8") for path in sorted(site.rglob("*.html"))}


def test_every_link_leads_to_a_file_and_an_anchor_of_the_site(site: Path) -> None:
    pages = pages_of(site)
    anchors = {name: {unquote(found) for found in _ID.findall(text)} for name, text in pages.items()}
    # That page is drawn by its script.
    anchors[REFERENCE] |= {route.anchor for route in routes()}
    wrong = []
    links = 0
    for name, text in pages.items():
        for _, target in _LINK.findall(_TEXT.sub("", text)):
            parts = urlsplit(target)
            if parts.scheme or target.startswith("//") or name == "404.html":
                continue
            links += 1
            path = normpath(f"{Path(name).parent}/{unquote(parts.path)}") if parts.path else name
            path += "/index.html" if (site / path).is_dir() else ""
            known = anchors.get(path, set()) | {"", "__top"}
            if not (site / path).exists() or (path.endswith(".html") and unquote(parts.fragment) not in known):
                wrong.append(f"{name}: {target}")
    assert wrong == []
    assert links > 3000


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    for name, text in pages_of(site).items():
        loaded = [target for tag, target in _LINK.findall(_TEXT.sub("", text)) if tag != "a"]
        loaded += re.findall(r'<script[^>]*\ssrc="?([^"\s>]+)', text)
        assert [target for target in loaded if re.match(r"(https?:)?//", target)] == [], name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", path.read_text("utf-8")), path


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    listed = [name for page in python_api.PAGES.values() for name in page.names]
    assert sorted(listed) == sorted(python_api.exported()), "tools/docs_site/python_api.py says which page has a name"
    shown = " ".join(text for name, text in pages_of(site).items() if name.startswith("reference/python-"))
    assert [name for name in listed if not re.search(rf'id="?celeriac\.{name}[" ]', shown)] == []


def test_a_reader_searches_and_opens_a_route(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_placeholder("Search").fill("dead letters")
    expect(page.locator(".md-search-result__link").first).to_be_visible()
    route = next(route for route in routes() if route.path == "/api/v1/tasks" and route.method == "post")
    page.goto(f"{url}{REFERENCE}#{route.anchor}")
    opened = page.locator(f"#{route.anchor}")
    expect(opened).to_have_attribute("open", "")
    expect(opened).to_contain_text("curl -sw '\\n' -X POST 'http://127.0.0.1:8000/api/v1/tasks'")
    expect(opened.get_by_role("button", name="Try it")).to_have_count(0)
    page.get_by_role("link", name="documentation").click()
    expect(page).to_have_title(re.compile("HTTP"))
