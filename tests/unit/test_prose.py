"""Documentation and code are plain English: the patterns that came back most do not come back again.

To forbid a pattern, add it to `FORBIDDEN`. To check another kind of text, pass it to `offenders`.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.command_line import REPOSITORY

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "bench/*.md", "api/**/*.md")
    for path in REPOSITORY.glob(pattern)
    if "node_modules" not in path.parts
)
#: Files whose comments, docstrings and texts are read. Generated ones are as good as their sources.
SOURCES = sorted(
    path
    for folder in ("platform", "api", "tasks", "proto", "bench", "tools", "examples", "deploy")
    for suffix in ("py", "lua", "proto", "js", "html", "css")
    for path in (REPOSITORY / folder).rglob(f"*.{suffix}")
    if "node_modules" not in path.parts and "_pb2" not in path.name
)
_CODE = re.compile(r"^ *(```|~~~).*?^ *\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


class Pattern(NamedTuple):
    """Words that do not belong in a text, and what to write instead."""

    found: re.Pattern[str]
    instead: str


FORBIDDEN = (
    Pattern(
        re.compile(r"(?<!\bthere )(?<!\bthere\n)\b(?:is|are|was|were)\s+no\b(?!\s+longer\b)", re.IGNORECASE),
        'write "is not a …" ("there is no …" and "is no longer …" are fine)',
    ),
    Pattern(re.compile(r"\bwhoever\b", re.IGNORECASE), "name the actor: the caller, the client, the user"),
    Pattern(re.compile(r"\bOf\s"), 'do not begin a sentence with "Of": begin with the subject'),
)


def offenders(text: str, name: str) -> Iterator[str]:
    """Yield `name:LINE: words: what to write instead` for each forbidden pattern in a text."""
    for pattern in FORBIDDEN:
        for match in pattern.found.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name}:{line}: {' '.join(match[0].split())!r}: {pattern.instead}"


def prose_of(markdown: str) -> str:
    """Return a page without its code; lines keep their numbers."""
    return _CODE.sub(lambda code: "\n" * code[0].count("\n") or "CODE", markdown)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment and string of a Python file; each line of another one."""
    source = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string.lstrip("#: rf").strip("\"'")


def test_the_texts_of_the_code_are_plain_english() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {said}"
        for path in SOURCES
        for line, text in texts_of(path)
        for said in offenders(_CODE.sub("CODE", text), "text")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_page_is_plain_english(path: Path) -> None:
    found = list(offenders(prose_of(path.read_text("utf-8")), str(path.relative_to(REPOSITORY))))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "That is no token.",
        "these\nare no\nnumbers",
        "There was something, and it was no file.",
        "Whoever asks gets it.",
        "It is kept. Of these, one runs.",
    ],
)
def test_what_is_forbidden_is_found(text: str) -> None:
    assert len(list(offenders(text, "text"))) == 1


@pytest.mark.parametrize(
    "text",
    ["There is no room.", "there\nare no files", "It is no longer valid.", "This is not a token.", "one of these"],
)
def test_what_is_allowed_is_not_found(text: str) -> None:
    assert not list(offenders(text, "text"))


def test_an_offender_is_named_with_its_line_and_code_does_not_count() -> None:
    page = "# A page\n\n```sh\nwhoever\n```\n`is no` code\n\nWhoever comes.\n"
    assert [found.split(": ")[0] for found in offenders(prose_of(page), "page.md")] == ["page.md:8"]
