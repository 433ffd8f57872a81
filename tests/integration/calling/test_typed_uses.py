"""mypy and pyright find what is wrong in `tests/typed_uses/uses.py`, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY

USES = REPOSITORY / "tests" / "typed_uses" / "uses.py"
_MODULE = re.compile(r"\b(?:builtins|celeriac(?:\.\w+)*|uses|tests\.typed_uses\.uses)\.(?=\w)")

#: By line: what is revealed there, and whether there is an error.
Findings = tuple[dict[int, str], set[int]]


@pytest.mark.timeout(400)
def test_mypy_and_pyright_say_the_same(tmp_path: Path) -> None:
    """Both run in one test: each has to read the whole package."""
    lines = USES.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    shown = {number: line.rpartition("# is ")[2] for number, line in enumerate(lines, 1) if "  # is " in line}
    assert len(wrong) > 25
    assert len(shown) > 30
    for check in (mypy, pyright):
        revealed, errors = check(tmp_path)
        assert {line: lines[line - 1] for line in sorted(errors ^ wrong)} == {}, check.__name__
        assert revealed == shown, check.__name__


def mypy(tmp_path: Path) -> Findings:
    done = run("mypy", "--strict", "--no-error-summary", "--output", "json", "--cache-dir", str(tmp_path), str(USES))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found, done.stderr
    revealed = {
        one["line"]: plain(re.search('"(.*)"', one["message"])[1])  # type: ignore[index]
        for one in found
        if one["severity"] == "note" and "Revealed" in one["message"]
    }
    return revealed, {one["line"] for one in found if one["severity"] == "error"}


def pyright(tmp_path: Path) -> Findings:
    project = tmp_path / "pyrightconfig.json"
    folders = [str(REPOSITORY / name) for name in ("platform", "api", "tasks", "proto")]
    project.write_text(
        json.dumps({"include": [str(USES)], "extraPaths": folders, "typeCheckingMode": "standard", "venv": ""})
    )
    done = run("basedpyright", "--project", str(project), "--pythonpath", sys.executable, "--outputjson")
    found = json.loads(done.stdout)["generalDiagnostics"]
    revealed, errors = {}, set()
    for one in found:
        line = one["range"]["start"]["line"] + 1
        if one["severity"] == "information":
            revealed[line] = plain(re.search('is "(.*)"', one["message"])[1])  # type: ignore[index]
        elif one["severity"] == "error":
            errors.add(line)
    return revealed, errors


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=170
    )


def plain(text: str) -> str:
    """Return a type without the modules of its names."""
    return _MODULE.sub("", text)
