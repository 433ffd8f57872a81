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


#: What no command needs to show its help, and no program to import what it uses of `celeriac`.
SERVER = (
    "redis",
    "sqlalchemy",
    "alembic",
    "celery",
    "kombu",
    "fastapi",
    "starlette",
    "grpc",
    "google",
    "uvicorn",
    "PIL",
)


def imported_by(*arguments: str) -> set[str]:
    """Return the modules that a program has imported at its end."""
    said = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True, timeout=60
    ).stderr
    lines = [line for line in said.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def of_ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0].startswith("celeriac")}


def test_importing_celeriac_imports_no_other_package() -> None:
    modules = imported_by("-S", "-c", f"import sys; sys.path += {sys.path!r}; import celeriac")
    assert of_ours(modules) == {"celeriac", "celeriac.lazy_names"}
    others = {name.partition(".")[0] for name in modules} - {"celeriac"}
    assert others <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("code", "unused"),
    [
        ("from celeriac import task, Context, SkipRetry", ("httpx", "websockets", "yaml", "celeriac.settings.model")),
        ("from celeriac import Client, AsyncClient", ("httpx", "websockets", "yaml", "celeriac.settings.model")),
        ("from celeriac import RemoteWorker", ("httpx", "yaml", "celeriac.settings.model")),
        ("from celeriac.testing import run_task", ("httpx", "websockets")),
        ("from celeriac import *", ("httpx",)),
    ],
)
def test_a_program_does_not_import_what_it_does_not_use(code: str, unused: tuple[str, ...]) -> None:
    """A web application imports these before it answers its first request."""
    assert not imported_by("-c", code) & {*unused, *SERVER}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_command_itself_imports_no_command_no_settings_and_no_models(option: str) -> None:
    modules = imported_by("-m", "celeriac", option)
    assert not modules & {"pydantic", "httpx", "websockets", "yaml", "structlog", *SERVER}
    assert not {name for name in of_ours(modules) if name.startswith(("celeriac.cli.commands", "celeriac.settings"))}


def test_a_worker_has_grpcs_fork_handlers_off_before_grpc_is_there() -> None:
    """With them, a child started while another thread calls into gRPC now and then ends between fork and exec."""
    script = """
import os, sys
os.environ.pop("GRPC_ENABLE_FORK_SUPPORT", None)
import celeriac_tasks.worker
assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
assert "grpc" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
