"""Every example of docs/clients.md, run by a stranger: a folder with `work.py`, and `celeriac up`."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY, clean_environment
from tests.kit.up.running_up import RunningUp

_PAGE = REPOSITORY / "docs" / "clients.md"


def examples() -> list[str]:
    """Return the page's Python code, in its order."""
    return re.findall(r"^```python\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningUp]:
    (tmp_path / "work.py").write_text(examples()[0])
    (tmp_path / "celeriac.yaml").write_text("imports: [work]\n")
    with RunningUp(tmp_path / ".celeriac", cwd=tmp_path) as up:
        yield await up.ready()


async def python(code: str, cwd: Path) -> str:
    """Run a program in `cwd` and return what it printed; it must end well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        cwd=cwd,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaint = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, complaint.decode()
    return printed.decode()


async def test_the_examples_of_the_page_print_what_it_says(running: RunningUp) -> None:
    folder = running.data_dir.parent
    submit, ends, watch, many, history, held = [await python(code, folder) for code in examples()[1:]]
    assert submit.endswith("{'path': 'cat.png.200.png'}\n")
    assert ends.startswith("too_wide 20000 is too wide\n")
    assert "was cancelled" in ends
    assert [line for line in watch.splitlines() if "%" in line] == [
        f"{25 * n:3} % resizing: part {n + 1} of 4" for n in range(4)
    ]
    assert watch.endswith("COMPLETED {'path': 'dog.png.100.png'}\n")
    assert many.startswith("1000 {'path': '0.png.100.png'}\n{0: '")
    assert "payload.path: is required" in many
    assert "Failure(code='too_wide'" in history
    assert "'failed': 0" in history
    assert "DurationStats(avg_ms=" in history
    assert held.startswith("default 0 0 ")
    assert "note='the bank is down'" in held
    assert held.endswith("\n5 100/m\n")
