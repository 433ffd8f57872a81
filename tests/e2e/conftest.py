"""A browser for the pages of the platform that a module has started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.kit.up.browser import running_browser, watched_page


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Browser]:
    """A browser, started after the module's platform."""
    with running_browser() as started:
        yield started


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that fails its test where a script fails or a request is refused."""
    with watched_page(browser, url) as opened:
        yield opened
