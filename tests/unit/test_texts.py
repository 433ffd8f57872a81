"""The catalogue of the pages: every language has the same texts, and the scripts use what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import Request

import celeriac_api.pages
from celeriac_api.access.credentials import LANGUAGE_COOKIE
from celeriac_api.pages.texts import LANGUAGES, catalogue, language_of, text

STATIC: Final = Path(celeriac_api.pages.__file__).parent / "static"
SOURCES: Final = [*STATIC.rglob("*.js"), *STATIC.parent.glob("*.py")]
#: `t("a.b")`, `pieces("a.b", …)` of the scripts and `text(language, "a.b")` of the server.
USE: Final = re.compile(r"""\b(?:t|pieces)\(\s*"([\w.-]+)"|\btext\(\s*\w+,\s*"([\w.-]+)\"""")
#: A key that the server holds in a table of its own: `"answer.closed"`, also within another text.
USE_OF_TABLE: Final = re.compile(r"""["']((?:answer|signin)\.[\w.]+)["']""")
#: A key that begins with fixed words: `t(`status.${status}`)`.
USE_OF_SECTION: Final = re.compile(r"""\b(?:t|pieces)\(\s*`([\w.-]+)\$\{|\btext\(\s*\w+,\s*f"([\w.-]+)\{""")


def used(pattern: re.Pattern[str]) -> set[str]:
    """Return what a pattern finds outside of comments."""
    # A script has private fields that begin with `#`, so this begins a comment only in Python.
    comments = {".js": r"/\*.*?\*/|^\s*//.*?$", ".py": r"^\s*#.*?$"}
    sources = [re.sub(comments[path.suffix], "", path.read_text(), flags=re.S | re.M) for path in SOURCES]
    return {found for source in sources for found in found_in(pattern, source)}


def found_in(pattern: re.Pattern[str], source: str) -> list[str]:
    return [one for found in pattern.finditer(source) for one in found.groups() if one]


def placeholders(entry: Any) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", entry if isinstance(entry, str) else " ".join(entry.values())))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_with_the_same_places_for_values(language: str) -> None:
    model, here = catalogue(LANGUAGES[0]), catalogue(language)
    assert here.keys() == model.keys()
    assert {key: placeholders(here[key]) for key in here} == {key: placeholders(model[key]) for key in model}
    forms = {tuple(entry) for entry in here.values() if not isinstance(entry, str)}
    assert all("other" in form for form in forms)
    assert not [key for key, entry in here.items() if not entry]


def test_pages_use_texts_that_exist_and_no_text_is_left_over() -> None:
    keys, named, sections = set(catalogue(LANGUAGES[0])), used(USE), used(USE_OF_SECTION)
    named |= used(USE_OF_TABLE)
    assert named <= keys
    assert {one for one in sections if not any(key.startswith(one) for key in keys)} == set()
    assert {key for key in keys - named if not key.startswith(tuple(sections))} == set()


def test_a_text_of_the_server_has_its_values() -> None:
    assert text("en", "signin.title") == "Sign in"
    assert text("zh", "signin.title") == "登录"


@pytest.mark.parametrize(
    ("accepted", "cookie", "language"),
    [
        ("", "", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "", "zh"),
        ("en;q=0.5, ZH-Hans ; q=0.7", "", "zh"),
        ("fr, de;q=0.9", "", "en"),
        ("zh;q=0", "", "en"),
        ("zh;q=nonsense,en", "", "en"),
        ("zh", "en", "en"),
        ("en", "zh", "zh"),
        ("zh", "../../etc/passwd", "zh"),
        ("x," * 5000 + "zh", "", "en"),
    ],
)
def test_a_reader_gets_the_chosen_language_or_the_most_wanted_one(accepted: str, cookie: str, language: str) -> None:
    headers = [(b"accept-language", accepted.encode()), (b"cookie", f"{LANGUAGE_COOKIE}={cookie}".encode())]
    assert language_of(Request({"type": "http", "headers": headers, "query_string": b""})) == language
    for asked, then in (("zh", "zh"), ("en", "en"), ("fr", language)):
        query = f"next=%2Fdashboard&language={asked}".encode()
        assert language_of(Request({"type": "http", "headers": headers, "query_string": query})) == then
