"""Our cookies are found by splitting, and their values are never decoded."""

from __future__ import annotations

import time

import pytest

from celeriac_api.access.credentials import COOKIE, keep_own_cookies, session_of

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.AAAA-_bbb"


@pytest.mark.parametrize(
    ("header", "session"),
    [
        (f"{COOKIE}={JWT}", JWT),
        (f"a=b; {COOKIE}={JWT}; c=d", JWT),
        (f"a=b;{COOKIE}={JWT}", JWT),
        (f" {COOKIE} = {JWT} ", JWT),
        (f"{COOKIE}=first; {COOKIE}=second", "first"),
        (f'{COOKIE}="quoted"; {COOKIE}=plain', "plain"),
        (f"{COOKIE}=cel_0123456789ab_{'A' * 43}", f"cel_0123456789ab_{'A' * 43}"),
        (f"{COOKIE}={'a' * 8192}", "a" * 8192),
        (f"{COOKIE}={'a' * 8193}", None),
        (f"{COOKIE}=", None),
        (COOKIE, None),
        (f'{COOKIE}="{JWT}"', None),
        (f"{COOKIE}=a b", None),
        (f"{COOKIE}=a=b", None),
        (f"{COOKIE}=a,b", None),
        (f"{COOKIE}=\\101", None),
        (f"{COOKIE}=\x00", None),
        (f"{COOKIE}=\xe9", None),
        (f"x{COOKIE}={JWT}", None),
        (f"{COOKIE}x={JWT}", None),
        ("", None),
        (";;;", None),
        ("=", None),
    ],
)
def test_the_session_of_a_cookie_header(header: str, session: str | None) -> None:
    assert session_of(header) == session


def test_routes_get_no_other_cookie_to_parse() -> None:
    scope = {"headers": [(b"cookie", b'evil="\\1\\1"'), (b"x", b"1"), (b"cookie", f"a=b; {COOKIE}=ok".encode())]}
    keep_own_cookies(scope)
    assert scope["headers"] == [(b"x", b"1"), (b"cookie", f"{COOKIE}=ok".encode())]
    both = f"a=b; celeriac_language=zh; {COOKIE}=ok; celeriac_language=en".encode()
    scope = {"headers": [(b"cookie", both), (b"x", b"1")]}
    keep_own_cookies(scope)
    assert scope["headers"] == [(b"x", b"1"), (b"cookie", f"{COOKIE}=ok; celeriac_language=zh".encode())]
    scope = {"headers": [(b"cookie", b"a=b"), (b"x", b"1")]}
    keep_own_cookies(scope)
    assert scope["headers"] == [(b"x", b"1")]


@pytest.mark.parametrize(
    "piece", ['"\\1', "\\1", ";", "; ", "=", '="', ",", " ", f"{COOKIE}=", f"{COOKIE}=a;", "a=b; "]
)
def test_the_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    def cpu_s(size: int) -> float:
        header = f'{COOKIE}="' + piece * (size // len(piece))
        best = float("inf")
        for _ in range(5):
            began = time.process_time()
            session_of(header)
            best = min(best, time.process_time() - began)
        return best

    assert cpu_s(1_600_000) < 60 * (cpu_s(100_000) + 0.0001), "sixteen times the length"
