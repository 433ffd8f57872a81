from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from celeriac.errors import SettingsError
from celeriac.installation.private_file import make_private_folder, write_private
from celeriac.installation.run_file import (
    Installation,
    find_installation,
    read_installation,
    remove_installation,
    write_installation,
)
from celeriac.up.folder_lock import FolderLock

RUNNING = Installation(
    http="http://127.0.0.1:8000",
    grpc="grpc://127.0.0.1:50050",
    redis="redis://:pw@127.0.0.1:6390/0",
    database="sqlite:////data/celeriac.db",
    version="0.1.0",
    pid=os.getpid(),
    started_at="2026-03-01T12:00:00.000Z",
    pids={"api": 11, "worker": 12},
)


def test_what_is_written_is_read_again_and_only_its_owner_may(tmp_path: Path) -> None:
    write_installation(tmp_path, RUNNING)
    assert read_installation(tmp_path) == RUNNING
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["run.json"]


def test_an_installation_whose_process_is_gone_is_not_found(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_installation(tmp_path, replace(RUNNING, pid=gone.pid))
    assert find_installation(tmp_path) is None
    assert read_installation(tmp_path) is not None
    write_installation(tmp_path, RUNNING)
    assert find_installation(tmp_path) == RUNNING


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"pid": 1}'])
def test_a_damaged_run_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert find_installation(tmp_path) is None


def test_fields_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    write_installation(tmp_path, RUNNING)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("{", '{"flower": "http://127.0.0.1:5555",', 1))
    assert find_installation(tmp_path) == RUNNING


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    write_installation(tmp_path, RUNNING)
    remove_installation(tmp_path)
    remove_installation(tmp_path)
    assert find_installation(tmp_path) is None


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path),
        pytest.raises(SettingsError, match=rf"pid {os.getpid()}\).*--data-dir"),
        FolderLock(tmp_path),
    ):
        pass
    with FolderLock(tmp_path):
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"


def test_a_private_folder_is_for_its_owner_only_also_below_folders_that_lack(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b c")
    assert (tmp_path / "a" / "b c").stat().st_mode & 0o777 == 0o700


def test_a_failed_write_leaves_the_old_content_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
