"""What is published: a wheel and an sdist that work outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY, clean_environment
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with both, built from the working copy."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=REPOSITORY, check=True, timeout=120, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment with the wheel, and what it depends on, but not the working copy."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    [wheel] = dist.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", str(wheel)],
        check=True, timeout=120,
    )  # fmt: skip
    # The path alone: what makes the working copy importable there is a .pth file, which is not read this way.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_runs_and_nothing_else(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    rooms = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert rooms == {"celeriac", "celeriac_api", "celeriac_tasks", "celeriac_proto"}
    for needed in (".lua", ".proto", "py.typed", "/migrations/env.py", ".css", ".js", ".html"):
        assert any(name.endswith(needed) for name in names), needed


def test_the_sdist_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "platform/celeriac/__init__.py"} <= names
    assert not any(name.startswith((".venv", ".celeriac", "deploy/secrets/", "storage/")) for name in names)


async def test_up_runs_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [installed / "python", "-c", "import celeriac, celeriac_api, celeriac_tasks; print(celeriac_api.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed.parent)), where.stdout
    with RunningUp(tmp_path / ".celeriac", cwd=tmp_path, command=(str(installed / "celeriac"),)) as up:
        await up.ready()

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [installed / "celeriac", *arguments],
                capture_output=True, text=True, cwd=tmp_path, timeout=60, env=clean_environment(),
            )  # fmt: skip

        (tmp_path / ".celeriac" / "uploads").mkdir(exist_ok=True)
        (tmp_path / ".celeriac" / "uploads" / "a.txt").write_text("hello")
        payload = f'{{"path": "{tmp_path}/.celeriac/uploads/a.txt", "processor": "checksum"}}'
        done = run("submit", "file_process", "--payload", payload, "--watch")
        assert done.returncode == 0, done.stdout + done.stderr
        await eventually(lambda: run("doctor", "--quick").returncode == 0, because="store and history answer")
        assert await up.stop() == 0
    assert not [name for name in os.listdir(tmp_path) if name not in (".celeriac", "storage")]
