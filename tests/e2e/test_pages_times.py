"""How the pages write times: relative, local, UTC; in the reader's language, with the zone always in sight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)

#: The moment that the functions take for now.
NOW: Final = "2026-11-29T12:00:00Z"
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

#: What each function answers: English in Britain, and Chinese; both readers are in Berlin (UTC+1 in November).
TABLE: Final[dict[str, dict[str, list[tuple[list[Any], str, str]]]]] = {
    "any": {
        "duration": [
            ([None], "–", "–"),
            ([0.4], "0 ms", "0 毫秒"),
            ([430], "430 ms", "430 毫秒"),
            ([999.7], "1.0 s", "1.0 秒"),
            ([2100], "2.1 s", "2.1 秒"),
            ([9970], "10 s", "10 秒"),
            ([59_970], "1 m", "1 分"),
            ([200_000], "3 m 20 s", "3 分 20 秒"),
            ([HOUR + 58 * MINUTE + 59_000], "1 h 58 m", "1 小时 58 分"),
            ([2 * DAY + 3 * HOUR], "2 d 3 h", "2 天 3 小时"),
            ([3 * DAY], "3 d", "3 天"),
        ],
    },
    "relative": {
        "ago": [
            ([None], "–", "–"),
            (["2026-11-29T11:59:59.700Z"], "now", "刚刚"),
            (["2026-11-29T11:59:48Z"], "12 s", "12 秒"),
            (["2026-11-29T11:54:10Z"], "5 m", "5 分"),
            (["2026-11-29T10:01:10Z"], "1 h 58 m", "1 小时 58 分"),
            (["2026-11-29T13:58:30Z"], "in 1 h 58 m", "1 小时 58 分后"),
            (["2026-11-29T12:05:12Z"], "in 5 m 12 s", "5 分 12 秒后"),
            (["2026-11-29T12:00:30Z"], "in 30 s", "30 秒后"),
        ],
        "when": [
            (["2026-11-29T11:54:10Z"], "5 m ago", "5 分前"),
            (["2026-11-29T12:00:00Z"], "now", "刚刚"),
            (["2026-11-29T13:58:30Z"], "in 1 h 58 m", "1 小时 58 分后"),
        ],
        "clockTime": [(["2026-11-29T02:11:42.123Z"], "03:11:42", "03:11:42")],
        "exactTime": [
            (["2026-11-29T02:11:42.123Z"], "29 Nov 2026, 03:11:42.123 CET", "2026年11月29日 GMT+1 03:11:42.123"),
            (["nonsense"], "–", "–"),
        ],
    },
    "local": {
        "ago": [
            (["2026-11-29T02:11:42.123Z"], "03:11:42", "03:11:42"),
            (["2026-11-28T23:30:00Z"], "00:30:00", "00:30:00"),
            (["2026-11-28T02:11:42Z"], "28 Nov, 03:11", "11月28日 03:11"),
            (["2024-11-28T02:11:42Z"], "28 Nov 2024", "2024年11月28日"),
        ],
        "when": [(["2026-11-29T13:58:30Z"], "14:58:30", "14:58:30")],
        "fullTime": [(["2026-07-01T02:11:42Z"], "1 Jul 2026, 04:11:42 CEST", "2026年7月1日 GMT+2 04:11:42")],
    },
    "utc": {
        "ago": [
            (["2026-11-29T02:11:42.123Z"], "02:11:42", "02:11:42"),
            (["2026-11-28T23:30:00Z"], "28 Nov, 23:30", "11月28日 23:30"),
        ],
        "clockTime": [(["2026-11-29T02:11:42.123Z"], "02:11:42", "02:11:42")],
        "minuteTime": [(["2026-11-29T23:11:42.123Z"], "23:11", "23:11")],
        "dayName": [(["2026-11-29T23:11:42.123Z"], "Sun 29 Nov", "11月29日周日")],
        "fullTime": [(["2026-07-01T02:11:42.5Z"], "1 Jul 2026, 02:11:42 UTC", "2026年7月1日 UTC 02:11:42")],
        "exactTime": [(["2026-07-01T02:11:42.5Z"], "1 Jul 2026, 02:11:42.500 UTC", "2026年7月1日 UTC 02:11:42.500")],
    },
}
ASK: Final = """async ([mode, name, given, now]) => {
    const { times } = await import("/dashboard/static/times.js");
    const format = await import("/dashboard/static/format.js");
    if (mode !== "any") times.mode = mode;
    return given.map((one) => format[name](...one, ...(["ago", "when"].includes(name) ? [Date.parse(now)] : [])));
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("times")) as address:
        yield address


@pytest.fixture
def berlin(browser: Browser, url: str) -> Iterator[Page]:
    """A page of a reader in Berlin."""
    with watched_page(browser, url, timezone_id="Europe/Berlin", locale="en-GB") as opened:
        yield opened


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_functions_write_durations_and_moments_in_the_readers_language(browser: Browser, url: str, locale: str) -> None:
    column = 1 if locale == "en-GB" else 2
    with watched_page(browser, url, timezone_id="Europe/Berlin", locale=locale) as page:
        page.goto("/dashboard#/waits")
        wanted = {
            (mode, name, str(case[0])): case[column] for mode, functions in TABLE.items() for name in functions
            for case in functions[name]
        }  # fmt: skip
        found = {}
        for mode, functions in TABLE.items():
            for name, cases in functions.items():
                said = page.evaluate(ASK, [mode, name, [case[0] for case in cases], NOW])
                found |= {(mode, name, str(case[0])): text for case, text in zip(cases, said, strict=True)}
        assert found == wanted


def test_the_switch_draws_times_again_and_is_kept(berlin: Page, url: str) -> None:
    answer = httpx.post(
        f"{url}/api/v1/tasks",
        json={"type": "mail.send", "payload": {"to": "ada@example.org"}, "run_at": "2031-07-01T10:00:00Z"},
        timeout=20,
    )
    task_id = answer.json()["task_id"]
    berlin.goto(f"/dashboard#/tasks/{task_id}")
    switch = berlin.get_by_role("group", name="Times")
    zone = berlin.locator(".zone")
    expect(switch.get_by_role("button", name="Relative")).to_have_attribute("aria-pressed", "true")
    expect(zone).to_contain_text("Europe/Berlin")
    due = berlin.locator('time[datetime^="2031-07-01T10:00:00"]').first
    expect(due).to_have_attribute("title", "1 Jul 2031, 12:00:00.000 CEST")
    switch.get_by_role("button", name="UTC").click()
    expect(zone).to_have_text("UTC")
    expect(due).to_have_attribute("title", "1 Jul 2031, 10:00:00.000 UTC")
    berlin.reload()
    expect(switch.get_by_role("button", name="UTC")).to_have_attribute("aria-pressed", "true")
    expect(due).to_have_attribute("title", "1 Jul 2031, 10:00:00.000 UTC")
    # By the keyboard it goes around.
    berlin.keyboard.press("z")
    expect(switch.get_by_role("button", name="Relative")).to_have_attribute("aria-pressed", "true")
    expect(due).to_have_attribute("title", "1 Jul 2031, 12:00:00.000 CEST")


def test_a_phone_has_the_switches_below_the_page(browser: Browser, url: str) -> None:
    with watched_page(browser, url, viewport={"width": 390, "height": 844}, timezone_id="Asia/Tokyo") as page:
        page.goto("/dashboard#/groups")
        expect(page.locator("#shell > .settings .zone")).to_have_text("Asia/Tokyo, UTC+9")
        page.get_by_role("group", name="Times").get_by_role("button", name="UTC").click()
        expect(page.locator(".zone")).to_have_text("UTC")


def test_an_address_without_a_page_says_so(berlin: Page) -> None:
    for address in ("#/foo", "#/groups/nothing", "#/constructor"):
        berlin.goto("/dashboard#/overview")
        expect(berlin.get_by_role("heading", name="Overview")).to_be_visible()
        berlin.goto(f"/dashboard{address}")
        expect(berlin.get_by_role("heading", name="This page does not exist")).to_be_visible()
        expect(berlin.locator("#main code")).to_have_text(address)
