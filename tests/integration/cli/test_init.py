"""`celeriac init` writes a project, or nothing."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from celeriac.cli.commands.init import _FILES
from celeriac.cli.main import main
from tests.kit.command_line import celeriac

TEMPLATE = Path(str(files("celeriac.cli"))) / "new_project"


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


async def test_all_files_of_the_template_are_written(tmp_path: Path) -> None:
    code, out, err = await celeriac("init", "a project/deep", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "cd 'a project/deep'" in out
    assert files_in(tmp_path / "a project" / "deep") == {name: (TEMPLATE / name).read_text() for name in _FILES}
    assert {name for name in files_in(TEMPLATE) if "__pycache__" not in name} == set(_FILES)


async def test_without_a_folder_the_project_is_here(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "tests").mkdir()
    code, out, _ = await celeriac("init", cwd=tmp_path)
    assert code == 0
    assert "cd " not in out
    assert set(files_in(tmp_path)) == {*_FILES, "README.md"}


@pytest.mark.parametrize("name", ["mytasks.py", "celeriac.yaml", "tests/test_mytasks.py"])
async def test_a_file_in_the_way_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    code, out, err = await celeriac("init", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err == f"celeriac: {name} exists already, and nothing was written: name another folder\n"
    assert files_in(tmp_path) == {name: "mine"}


async def test_links_that_lead_nowhere_and_files_in_place_of_folders_are_in_the_way_too(tmp_path: Path) -> None:
    (tmp_path / "mytasks.py").symlink_to("elsewhere.py")
    (tmp_path / "tests").write_text("mine")
    code, out, err = await celeriac("init", str(tmp_path))
    assert (code, out) == (2, "")
    assert f"{tmp_path}/mytasks.py, {tmp_path}/tests exist already" in err
    assert sorted(os.listdir(tmp_path)) == ["mytasks.py", "tests"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options]\n"),
        ("pytest.ini", ""),
        ("tox.ini", "[pytest]\n"),
        ("setup.cfg", "[tool:pytest]\n"),
    ],
)
async def test_a_configuration_of_pytest_that_is_there_stays_the_one_in_force(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    code, out, err = await celeriac("init", cwd=tmp_path)
    assert code == 0, err
    assert 'pythonpath = ["."]' in out
    assert set(files_in(tmp_path)) == {*_FILES, name} - ({"pytest.ini"} if name != "pytest.ini" else set())
    assert (tmp_path / name).read_text() == text


def test_what_was_written_before_an_error_is_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last file cannot be written: its folder is a link that leads into itself, which only opening it tells."""
    target = tmp_path / "new" / "tests"
    real_mkdir = Path.mkdir

    def mkdir(path: Path, *args: object, **options: object) -> None:
        real_mkdir(path)
        if path == target:
            path.rmdir()
            path.symlink_to("tests")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(sys, "argv", ["celeriac", "init", str(tmp_path / "new")])
    assert main() == 1
    assert "tests/test_mytasks.py" in capsys.readouterr().err
    assert not files_in(tmp_path)
