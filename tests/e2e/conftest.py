"""A browser for the pages of the platform that a module has started, and a client of its API."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.kit.up.browser import running_browser, watched_page


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Browser]:
    """A browser, started after the module's platform."""
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[httpx.Client]:
    """A client of the API, below `/api/v1/`."""
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=20) as client:
        yield client


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that fails its test where a script fails or a request is refused."""
    with watched_page(browser, url) as opened:
        yield opened
