"""The examples that have tests, tried as a new user would: their files in a folder, and pytest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("name", "count"), [("task_type", 5), ("shop", 6)])
def test_the_tests_of_an_example_pass(tmp_path: Path, name: str, count: int) -> None:
    folder = tmp_path / name
    shutil.copytree(REPOSITORY / "examples" / name, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    assert passed(folder) == count
