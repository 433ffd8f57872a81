"""The code of the documentation's pages.

A block of `python`, `sh` or `yaml` runs in the suite, unless the line before it says why not:

    <!-- not run: Docker builds images for minutes; test_deployment.py checks the files -->

`<!-- fails: … -->` says that a command of the block is to fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit.command_line import REPOSITORY

LANGUAGES = ("python", "sh", "yaml")
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>not run|fails): (?P<reason>.*?) -->\n\n?)?"
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_NAME = re.compile(r"# ([\w./-]+\.(?:py|yaml))$")


@dataclass(frozen=True)
class Block:
    """One block of code; `name` is the file that its first line names, if it names one."""

    language: str
    text: str
    line: int
    name: str | None
    not_run: str | None
    fails: str | None


def pages() -> list[Path]:
    """Return the pages whose code runs: README.md, whose code its translation repeats, and docs/."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of `LANGUAGES` of a page, in their order."""
    return list(_blocks(path.read_text("utf-8")))


def _blocks(markdown: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(markdown):
        if found["language"] not in LANGUAGES:
            continue
        text = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        first = _NAME.match(text.split("\n", 1)[0])
        yield Block(
            language=found["language"],
            text=text,
            line=markdown.count("\n", 0, found.start("language")) + 1,
            name=first[1] if first else None,
            not_run=found["reason"] if found["mark"] == "not run" else None,
            fails=found["reason"] if found["mark"] == "fails" else None,
        )
