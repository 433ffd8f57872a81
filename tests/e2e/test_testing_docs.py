"""docs/testing.md and examples/task_type, tried as a new user would: their files in a folder, and pytest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kit.command_line import REPOSITORY, clean_environment


def passed(folder: Path) -> int:
    """Run all tests of a folder and return how many passed; none may fail or be left out."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."],
        cwd=folder,
        env={name: value for name, value in clean_environment().items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return int(found[1])


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "testing.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```python")
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    assert passed(tmp_path) == sum(text.count("def test_") for _, text in blocks)


def test_the_example_passes(tmp_path: Path) -> None:
    folder = tmp_path / "task_type"
    shutil.copytree(REPOSITORY / "examples" / "task_type", folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    assert passed(folder) == 5
