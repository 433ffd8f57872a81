"""Holds an attempt's unfinished output, and moves finished output beside the original."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from celeriac.errors import TaskError
from celeriac.tasks.types.processors import is_output_name

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def folder_name(task_id: str) -> str:
    """Return a folder name for this task: its id, or a hash of it if a caller chose an id that is not a plain name."""
    return task_id if _PLAIN_ID.fullmatch(task_id) else sha256(task_id.encode(errors="surrogatepass")).hexdigest()


class Workplace:
    """A hidden folder beside the original, removed when the attempt ends. All methods block."""

    def __init__(self, target: Path, task_id: str) -> None:
        self._target = target
        self._prefix = f".work-{folder_name(task_id)}-"
        self._folder: Path | None = None
        self._steps = 0
        #: The files that were put beside the original, with the inodes that identify them.
        self._published: list[tuple[Path, int]] = []

    def open(self) -> None:
        """Make the folder; first removes the folders of earlier attempts of the task whose worker was killed."""
        for left in self._target.iterdir():
            if left.name.startswith(self._prefix):
                shutil.rmtree(left, ignore_errors=True)
        # A new name each time, because a worker that has lost its claim may still write to the previous folder.
        self._folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._target))

    def remove(self) -> None:
        """Remove the folder with everything that was not published."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def step_folder(self) -> Path:
        """Return an empty folder for the next step."""
        assert self._folder is not None
        self._steps += 1
        folder = self._folder / str(self._steps)
        folder.mkdir(mode=0o700)
        return folder

    def write(self, name: str, content: bytes) -> Path:
        """Write a file into a new step folder, as a step would."""
        path = self.step_folder() / name
        path.write_bytes(content)
        return path

    def publish(self, files: Sequence[Path]) -> list[Path]:
        """Move finished files beside the original, the first one last, and return their paths.

        Each file is on disk before it gets its final name. If one file cannot be moved, none is published.
        """
        try:
            for path in files:
                _sync(path)
            for path in reversed(files):
                target = self._target / path.name
                inode = path.stat().st_ino
                path.replace(target)
                self._published.append((target, inode))
            _sync(self._target)
        except BaseException:
            self.withdraw()
            raise
        return [target for target, _ in reversed(self._published)]

    def withdraw(self) -> None:
        """Remove the published files, unless another attempt has replaced them meanwhile."""
        for target, inode in self._published:
            with contextlib.suppress(OSError):
                if target.stat().st_ino == inode:
                    target.unlink()
        self._published.clear()


def check_outputs(folder: Path, names: Sequence[str], taken: Sequence[Path]) -> list[Path]:
    """Return the outputs of a step; raises `TaskError` if one is missing or not a regular file of its folder."""
    found: list[Path] = []
    for name in names:
        path = folder / name
        kind = 0
        with contextlib.suppress(OSError):
            kind = os.lstat(path).st_mode
        if not is_output_name(name) or not stat.S_ISREG(kind):
            raise TaskError(f"the processor did not write its output {name!r}", code="processor_failed")
        if any(other.name == name for other in taken):
            raise TaskError(f"two steps of the chain write {name!r}", code="processor_failed")
        found.append(path)
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
