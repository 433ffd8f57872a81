"""The token of a signal link is read only with the secret that made it."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from celeriac.signals.links import SignalLink, SignalLinks, make_token, read_token

SECRET = b"0123456789abcdef0123456789abcdef"
LINK = SignalLink("0f0f0f0f-1111-4222-8333-444444444444", "approval", 1_896_076_800_000)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255), st.integers(0, 2**50))
def test_a_token_is_read_as_it_was_made(name: str, until_ms: int) -> None:
    link = SignalLink(name, name, until_ms)
    assert read_token(SECRET, make_token(SECRET, link)) == link


@given(st.data())
def test_a_token_that_was_changed_in_any_place_is_unknown(data: st.DataObject) -> None:
    token = make_token(SECRET, LINK)
    place = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.sampled_from(sorted(set("ABCxyz019-_") - {token[place]})))
    assert read_token(SECRET, token[:place] + other + token[place + 1 :]) is None


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_unknown(text: str) -> None:
    assert read_token(SECRET, text) is None


def test_the_token_of_another_secret_is_unknown() -> None:
    assert read_token(SECRET, make_token(SECRET[::-1], LINK)) is None
    assert read_token(SECRET, "A" * 1_000_000) is None


def test_a_link_is_below_the_address_and_valid_for_the_given_time() -> None:
    before = time.time()
    url = SignalLinks(SECRET, "https://tasks.example.com/base/").url("id-1", "approval", 60)
    path = urlsplit(url).path
    assert url.startswith("https://tasks.example.com/base/a/")
    link = read_token(SECRET, path.rpartition("/")[2])
    assert link is not None
    assert link[:2] == ("id-1", "approval")
    assert before + 60 <= link.valid_until_ms / 1000 + 0.001
    assert link.valid_until_ms / 1000 <= time.time() + 60.001
