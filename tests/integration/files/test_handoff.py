"""The handoff on real file systems: renames, copies, refusals, and a kill between any two of its steps."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.errors import CeleriacError, FileBusyError, FileMissingError, FileNotAllowedError, StorageFullError
from celeriac.files.file_system import FileSystem
from celeriac.files.handoff import Handoff
from celeriac.files.roots import AllowedRoots
from tests.kit.files.handoff_stepper import CONTENT

OTHER_FILE_SYSTEM = Path("/dev/shm")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of another file system."""
    if not OTHER_FILE_SYSTEM.is_dir() or OTHER_FILE_SYSTEM.stat().st_dev == tmp_path.stat().st_dev:
        raise RuntimeError("these tests need a second file system at /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=OTHER_FILE_SYSTEM))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def handoff(tmp_path: Path) -> Handoff:
    made = Handoff(tmp_path / "storage")
    made.prepare()
    return made


def taken(handoff: Handoff, source: Path) -> Path:
    """Hand a file over as for a task that is stored; returns where it is then."""
    handed = handoff.take(AllowedRoots([source.parent]).open(str(source)), str(uuid.uuid4()), "original.mp4")
    handoff.finish(handed)
    return handed.target


def nothing_left(handoff: Handoff) -> bool:
    return not os.listdir(handoff.storage / "videos") and not os.listdir(handoff.storage / ".handoff")


def test_on_one_file_system_it_is_the_very_file_under_another_name(handoff: Handoff, incoming: Path) -> None:
    source = incoming / "a.mp4"
    source.write_bytes(CONTENT)
    inode = source.stat().st_ino
    target = taken(handoff, source)
    assert target.parent.parent == handoff.storage / "videos"
    assert target.stat().st_ino == inode
    assert not source.exists()
    assert os.listdir(target.parent) == ["original.mp4"]
    assert not os.listdir(handoff.storage / ".handoff")


def test_across_file_systems_it_is_copied_with_its_mode_and_the_source_is_gone(
    handoff: Handoff, elsewhere: Path
) -> None:
    source = elsewhere / "a.mp4"
    source.write_bytes(CONTENT)
    source.chmod(0o640)
    target = taken(handoff, source)
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o640
    assert not source.exists()
    assert os.listdir(target.parent) == ["original.mp4"]


def test_holes_stay_holes(handoff: Handoff, elsewhere: Path) -> None:
    source = elsewhere / "sparse.mp4"
    with source.open("wb") as file:
        file.seek(200 * 1024**2)
        file.write(b"end")
        file.truncate(300 * 1024**2)
    target = taken(handoff, source)
    assert target.stat().st_size == 300 * 1024**2
    assert target.stat().st_blocks * 512 < 1024**2
    with target.open("rb") as file:
        file.seek(200 * 1024**2)
        assert file.read(4) == b"end\0"


@pytest.mark.parametrize("copied", [False, True])
def test_a_handoff_that_is_given_back_leaves_everything_as_it_was(
    handoff: Handoff, incoming: Path, elsewhere: Path, copied: bool
) -> None:
    source = (elsewhere if copied else incoming) / "a.mp4"
    source.write_bytes(CONTENT)
    handed = handoff.take(AllowedRoots([source.parent]).open(str(source)), str(uuid.uuid4()), "original.mp4")
    assert handed.copied is copied
    handoff.give_back(handed)
    assert source.read_bytes() == CONTENT
    assert nothing_left(handoff)


def test_what_was_written_under_the_name_meanwhile_is_not_overwritten(handoff: Handoff, incoming: Path) -> None:
    source = incoming / "a.mp4"
    source.write_bytes(CONTENT)
    handed = handoff.take(AllowedRoots([incoming]).open(str(source)), str(uuid.uuid4()), "original.mp4")
    source.write_bytes(b"newer")
    handoff.give_back(handed)
    assert source.read_bytes() == b"newer"
    assert (incoming / f"a.mp4.{handed.task_id}").read_bytes() == CONTENT


def test_of_two_handoffs_of_one_file_one_gets_it(handoff: Handoff, incoming: Path, elsewhere: Path) -> None:
    for folder in (incoming, elsewhere):
        source = folder / "a.mp4"
        source.write_bytes(CONTENT)
        roots = AllowedRoots([folder])
        first, second = roots.open(str(source)), roots.open(str(source))
        handed = handoff.take(first, str(uuid.uuid4()), "original.mp4")
        with second, pytest.raises(FileMissingError):
            handoff.take(second, str(uuid.uuid4()), "original.mp4")
        handoff.finish(handed)


class FullDisk(FileSystem):
    def copy(self, *arguments: object, **options: object) -> None:
        partial = arguments[1]
        assert isinstance(partial, Path)
        partial.write_bytes(b"as far as it went")
        raise OSError(28, "No space left on device")


class ReadOnly(FileSystem):
    def make_folder(self, path: Path) -> None:
        raise OSError(30, "Read-only file system")


@pytest.mark.parametrize(("disk", "error"), [(FullDisk(), StorageFullError), (ReadOnly(), FileNotAllowedError)])
def test_a_disk_that_refuses_leaves_the_source_and_nothing_else(
    tmp_path: Path, elsewhere: Path, disk: FileSystem, error: type[CeleriacError]
) -> None:
    handoff = Handoff(tmp_path / "storage", disk=disk)
    handoff.prepare()
    source = elsewhere / "a.mp4"
    source.write_bytes(CONTENT)
    with AllowedRoots([elsewhere]).open(str(source)) as found, pytest.raises(error):
        handoff.take(found, str(uuid.uuid4()), "original.mp4")
    assert source.read_bytes() == CONTENT
    assert nothing_left(handoff)


def test_a_file_that_is_replaced_between_look_and_rename_is_not_taken(handoff: Handoff, incoming: Path) -> None:
    source, link = incoming / "a.mp4", incoming / "link"
    source.write_bytes(CONTENT)
    found = AllowedRoots([incoming]).open(str(source))
    link.symlink_to("/etc/passwd")
    link.rename(source)
    with found, pytest.raises(FileBusyError):
        handoff.take(found, str(uuid.uuid4()), "original.mp4")
    assert source.is_symlink()
    assert nothing_left(handoff)


# --- what may be handed in


def test_paths_that_may_not_be_handed_in(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "leaves").symlink_to(outside / "secret")
    (root / "leaves-by-folder").symlink_to(outside)
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to(root / "loop")
    (root / "dir-link").symlink_to(root / "sub")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root / "sock"))
    roots = AllowedRoots([root])
    refused = [
        "", "a\0b", "/" + "x" * 5000, "/etc/passwd", str(outside / "secret"), f"{root}/../outside/secret",
        str(root / "leaves"), str(root / "leaves-by-folder" / "secret"), str(root), str(root / "sub"),
        str(root / "dir-link"), str(root / "fifo"), str(root / "sock"), str(root / "loop"), "/dev/null", "/",
        "relative", f"{outside}/none",
    ]  # fmt: skip
    for path in refused:
        with pytest.raises(FileNotAllowedError):
            roots.open(path)
    with pytest.raises(FileMissingError):
        roots.open(str(root / "none"))
    with pytest.raises(FileMissingError):
        roots.open(str(root / "none" / "none"))


def test_a_link_that_stays_inside_leads_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_text("x")
    (tmp_path / "link.mp4").symlink_to("real.mp4")
    with AllowedRoots([tmp_path]).open(str(tmp_path / "link.mp4")) as found:
        assert found.name == "real.mp4"


def test_what_the_platform_keeps_for_itself_is_nobodys_to_hand_in(tmp_path: Path) -> None:
    other = tmp_path / "storage" / "videos" / "other" / "original.mp4"
    other.parent.mkdir(parents=True)
    other.write_text("x")
    (tmp_path / "mine.mp4").write_text("x")
    roots = AllowedRoots([tmp_path], protected=[tmp_path / "storage" / "videos"])
    with pytest.raises(FileNotAllowedError):
        roots.open(str(other))
    roots.open(str(tmp_path / "mine.mp4")).close()


# --- kill -9


@pytest.mark.parametrize("copied", [False, True], ids=["rename", "copy"])
def test_killed_between_any_two_steps_the_file_ends_whole_in_exactly_one_place(
    tmp_path: Path, incoming: Path, elsewhere: Path, copied: bool
) -> None:
    sources = elsewhere if copied else incoming
    command = [sys.executable, "-m", "tests.kit.files.handoff_stepper", str(tmp_path), str(sources)]
    runs = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert sum(run["killed"] for run in runs) >= 18, "every step was met"
    handoff = Handoff(tmp_path / "storage")
    before = {run["task_id"]: _whole_places(handoff, run, hidden=True) for run in runs}
    assert all(before.values()), before
    for task_id in handoff.left_over(0):
        leftover = handoff.seize(task_id)
        if leftover is not None:
            leftover.settle(known=(tmp_path / "records" / task_id).exists())
    for run in runs:
        places = _whole_places(handoff, run)
        known = (tmp_path / "records" / run["task_id"]).exists()
        assert places == (["target"] if known else ["source"]), run
    assert not list(handoff.left_over(0))
    assert sorted(os.listdir(sources)) == sorted(
        Path(run["source"]).name for run in runs if not (tmp_path / "records" / run["task_id"]).exists()
    )
    folders = os.listdir(handoff.storage / "videos")
    assert sorted(folders) == sorted(os.listdir(tmp_path / "records"))
    assert all(os.listdir(handoff.folder(name)) == ["original.mp4"] for name in folders)


def _whole_places(handoff: Handoff, run: dict[str, str], *, hidden: bool = False) -> list[str]:
    source = Path(run["source"])
    places = {"source": source, "target": handoff.folder(run["task_id"]) / "original.mp4"}
    if hidden:
        places["hidden"] = source.with_name(f".{source.name}.{run['task_id']}")
    return [name for name, path in places.items() if path.exists() and path.read_bytes() == CONTENT]
