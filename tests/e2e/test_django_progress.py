"""The example project of Django as its README has it: a browser sees how far an order is, live."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.command_line import clean_environment
from tests.kit.django.project import PROJECT
from tests.kit.servers import free_port
from tests.kit.up.browser import running_browser, watched_page
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

MANAGE = (sys.executable, str(PROJECT / "manage.py"))
#: A browser asks for an icon, and this site has none.
NO_ICON = "404"


@contextmanager
def shop(folder: Path, *, allowed: bool) -> Iterator[str]:
    """Run the site and the platform, which have different origins; yield the address of the site."""
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    environment = {
        "SHOP_SQLITE": str(folder / "shop.sqlite3"),
        "CELERIAC_DATA_DIR": str(folder / "data"),
        "CELERIAC_ACCESS__CORS_ORIGINS": json.dumps([site if allowed else "http://127.0.0.1:1"]),
    }
    whole = clean_environment(**environment)

    def manage(*arguments: str, **more: str) -> None:
        subprocess.run([*MANAGE, *arguments], env=whole | more, cwd=folder, check=True, timeout=120)

    manage("migrate", "--verbosity", "0")
    for name in ("ada", "bob"):
        manage(
            "createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.com",
            DJANGO_SUPERUSER_PASSWORD="a secret of tests",
        )  # fmt: skip
    with RunningUp(folder / "data", command=(*MANAGE, "celeriac"), cwd=folder, **environment) as up:
        done(up.ready())
        with (folder / "site.log").open("wb") as log:
            server = subprocess.Popen(
                [*MANAGE, "runserver", "--noreload", str(port)], env=whole, cwd=folder, stdout=log, stderr=log
            )
        try:
            yield site
        finally:
            server.kill()
            server.wait()
        done(up.stop())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site whose pages may connect to the API."""
    with shop(tmp_path_factory.mktemp("shop"), allowed=True) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests."""
    with running_browser() as started:
        yield started


def done(work: Coroutine[Any, Any, object]) -> None:
    """Do it on a loop of its own: Playwright has one in this thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def sign_in(page: Page, name: str) -> None:
    page.goto("/admin/login/?next=/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("a secret of tests")
    page.get_by_role("button", name="Log in").click()


def order(page: Page, pieces: int) -> None:
    page.goto("/")
    page.get_by_label("Customer").fill("Ada")
    page.get_by_label("Pieces").fill(str(pieces))
    page.get_by_role("button", name="Order").click()


def answers(site: str) -> bool:
    try:
        urllib.request.urlopen(site, timeout=5).close()
    except OSError:
        return False
    return True


def test_an_order_shows_how_far_it_is_and_its_end(site: str, browser: Browser) -> None:
    done(eventually(lambda: answers(site), because="the site answers"))
    with watched_page(browser, site, expected=NO_ICON) as page:
        sign_in(page, "ada")
        order(page, 50)
        shown = page.locator(".celeriac-progress")
        expect(shown).to_have_attribute("data-status", "progress", timeout=60_000)
        assert 0 < float(shown.locator("progress").get_attribute("value") or "0") <= 100
        expect(shown.get_by_text("of 50")).to_be_visible()
        expect(shown).to_have_attribute("data-status", "completed", timeout=60_000)
        expect(shown.locator("progress")).to_have_attribute("value", "100")
        # One that has ended is shown as well.
        page.reload()
        expect(page.locator(".celeriac-progress")).to_have_attribute("data-status", "completed")
        expect(page.get_by_text("packed at")).to_be_visible()
        ended = page.url
    with watched_page(browser, site, expected=NO_ICON) as page:
        # Another user's task is nobody else's business, and no bar moves for ever.
        sign_in(page, "bob")
        page.goto(ended)
        expect(page.locator(".celeriac-progress")).to_have_attribute("data-status", "unknown", timeout=60_000)
        expect(page.locator(".celeriac-progress progress")).to_be_hidden()


def test_a_site_that_the_api_does_not_know_is_told_which_setting_names_it(tmp_path: Path, browser: Browser) -> None:
    with shop(tmp_path, allowed=False) as site:
        done(eventually(lambda: answers(site), because="the site answers"))
        with watched_page(browser, site, expected="404|403|access.cors_origins") as page:
            sign_in(page, "ada")
            with page.expect_console_message(lambda said: "access.cors_origins" in said.text, timeout=60_000) as hint:
                order(page, 1)
            assert hint.value.text.endswith(f"Does the setting access.cors_origins name {site}?")
