"""The source roots are folders, never packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY


@pytest.mark.parametrize("folder", ["platform", "api", "tasks", "proto"])
def test_a_source_root_is_no_package(folder: str) -> None:
    assert (REPOSITORY / folder).is_dir()
    assert not (REPOSITORY / folder / "__init__.py").exists()


def test_python_finds_its_own_platform_from_the_root_of_the_repository() -> None:
    code = "import platform, celeriac; print(platform.__file__); print(platform.python_version())"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    file, version = found.split()
    assert REPOSITORY not in Path(file).parents or ".venv" in file
    assert version == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("command", ["status", "submit", "groups", "doctor", "log"])
def test_a_command_does_not_import_what_it_does_not_use(command: str) -> None:
    """People feel each tenth of a second of these."""
    heavy = ("sqlalchemy", "alembic", "celery", "kombu", "fastapi", "grpc", "httpx", "uvicorn", "PIL")
    program = (
        "import sys\nfrom celeriac.cli.main import app\n"
        f"try: app([{command!r}, '--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', *sorted(set(sys.modules) & set({heavy!r})))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1].strip() == "heavy:"
