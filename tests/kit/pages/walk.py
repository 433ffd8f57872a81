"""What is wrong with a page that a browser shows: for walks through all pages."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page, Request

FOLDER: Final = Path(__file__).parent
_AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text()
_RUN_AXE: Final = "() => axe.run(document, {resultTypes: ['violations']})"
#: What is wider than the window, and what is cut off.
_OUTSIDE: Final = (FOLDER / "outside.js").read_text()
#: Texts and names of a page that are not code and have no language of their own.
_TEXTS: Final = (FOLDER / "page_texts.js").read_text()
_CONTROLS: Final = (FOLDER / "controls.js").read_text()
#: Words that a Chinese page has too: names of products and protocols, units and keys.
_NAMES: Final = frozenset(
    """
    api axe celeriac celery worker workers json id ids utc gmt cet http grpc python curl cron url key
    token esc enter ctrl shift p50 p95 p99 ms kb mb gb mib sdk rfc openapi openai post get put patch delete
    payload pid tag tags shell sql csv yaml unix asia europe lua redis
    """.split()  # noqa: SIM905
)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z']+")


#: A page has settled when it says the same for so many looks, with this pause between them (ms).
_LOOKS: Final = 5
_PAUSE_MS: Final = 120
_NUMBER: Final = re.compile(r"\d+")
#: A number that stands for itself in a name, such as how many there are.
_COUNT: Final = re.compile(r"(?<![\w-])[\d,]+\+?(?= |$)|(?<=[a-z])[\d,]+\+?$")


def unanswered(page: Page) -> set[Request]:
    """Return the set of requests of a page's scripts that have no answer yet, kept up to date; not its streams."""
    found: set[Request] = set()

    def begin(request: Request) -> None:
        if request.resource_type == "fetch":
            found.add(request)

    def end(request: Request) -> None:
        found.discard(request)

    page.on("request", begin)
    page.on("requestfinished", end)
    page.on("requestfailed", end)
    return found


def settle(page: Page, looks: int = _LOOKS, *, asked: Collection[Request] = ()) -> None:
    """Wait until a page says the same for so many looks, but for its numbers: live streams have no end to wait for.

    While an answer is on its way, `asked` has its request, and the page has not settled.
    """
    before: set[str] | None = None
    same = 0
    for _ in range(500):
        said = {_NUMBER.sub("0", text) for text in page.evaluate(_TEXTS)}
        same = same + 1 if said == before and not asked else 0
        if same == looks:
            return
        before = said
        page.wait_for_timeout(_PAUSE_MS)
    raise AssertionError(f"the page does not settle: {before}")


def offences(page: Page) -> list[str]:
    """Return what the accessibility rules of axe-core find: rule, and the elements that break it."""
    page.evaluate(_AXE)
    result: dict[str, Any] = page.evaluate(_RUN_AXE)
    return [
        f"{one['id']}: {', '.join(str(node['target'][-1]) for node in one['nodes'][:4])}"
        for one in result["violations"]
    ]


def outside(page: Page) -> list[str]:
    """Return what is outside of the window or cut off."""
    found: list[str] = page.evaluate(_OUTSIDE)
    return found


def english(page: Page, *names: str) -> list[str]:
    """Return the texts of a page with English words that are not names; `names` are regular expressions of the test."""
    texts: list[str] = page.evaluate(_TEXTS)
    known = re.compile("|".join((r"[\w-]+(?:[._/:@-][\w-]+)+", r"\b[0-9a-f]{7,}\b", *names)))
    return [
        one
        for one in texts
        if any(word.lower() not in _NAMES for word in _WORD.findall(known.sub(" ", one)) if len(word) > 1)
    ]


def controls(page: Page, inside: str) -> set[str]:
    """Return what a user can do, in an open dialog or else in an element: "name" or "group: name", without numbers."""
    found: list[dict[str, str]] = page.evaluate(_CONTROLS, inside)
    return {": ".join(filter(None, (one["group"], _COUNT.sub("", one["name"]).strip()))) for one in found}
