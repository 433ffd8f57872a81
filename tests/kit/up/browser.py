"""A real Chromium for tests, and pages that complain of what they should not do."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start the machine's Chromium; where there is none the tests are left out, and say so, or fail in CI."""
    path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if path is None:
        text = "NO CHROMIUM: the pages are not tested here (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(text)
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Browser, base_url: str, *, expected: str | None = None, **options: Any) -> Iterator[Page]:
    """Open a page; at its end nothing may have gone wrong in it, and it may have asked no other server.

    What the browser says of answers that a test provokes is `expected`, a regular expression.
    """
    context = browser.new_context(base_url=base_url, **{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(15_000)
    page = context.new_page()
    trouble: list[str] = []
    own = urlsplit(base_url).netloc

    def hear(message: Any) -> None:
        # What breaks the Content-Security-Policy is told here, too.
        if message.type in ("error", "warning") and not (expected and re.search(expected, message.text)):
            trouble.append(f"{message.type}: {message.text}")

    def asked(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data" and address.netloc != own:
            trouble.append(f"asked {request.url}")

    page.on("console", hear)
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", asked)
    try:
        yield page
        assert not trouble, "\n".join(trouble)
    finally:
        context.close()
