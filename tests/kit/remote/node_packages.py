"""A folder with the packages that the JavaScript tests need, installed as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY

STATIC = REPOSITORY / "api/celeriac_api/pages/static"
PACKAGES = (STATIC / "worker-sdk", STATIC / "notifications-client")

#: The programs of these tests in JavaScript.
PROGRAMS = REPOSITORY / "tests/kit/remote"

_installed: list[Path] = []


def node() -> str:
    """Return the path of node; without one the test fails in CI and is skipped elsewhere."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        message = "node and npm are missing: the JavaScript packages were NOT tested"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def node_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder where our packages (as `npm pack` makes them) and `ws` are installed."""
    node()
    if _installed:
        return _installed[0]
    folder = factory.mktemp("node")
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
    npm = ["npm", "--no-audit", "--no-fund", "--loglevel=error"]
    packed = subprocess.run(
        [*npm, "pack", "--pack-destination", str(folder), *map(str, PACKAGES)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    archives = [f"./{name}" for name in packed.stdout.split()[-len(PACKAGES) :]]
    got = subprocess.run(
        [*npm, "install", *archives, "ws@8"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if got.returncode != 0:
        pytest.skip(f"no package registry, so the JavaScript packages were NOT tested: {got.stderr[-500:]}")
    _installed.append(folder)
    return folder
