"""What a fresh interpreter imports, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY

pytestmark = pytest.mark.fresh_python


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


def test_importing_celeriac_does_not_import_httpx() -> None:
    code = "import celeriac, sys; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_has_grpcs_fork_handlers_off_before_grpc_is_there() -> None:
    """With them, a child started while another thread calls into gRPC now and then ends between fork and exec."""
    script = """
import os, sys
os.environ.pop("GRPC_ENABLE_FORK_SUPPORT", None)
import celeriac_tasks.engine.app
assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
assert "grpc" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
