"""Where an attempt's unfinished output is, and how finished output gets beside the original."""

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
    """Return a name for a folder of this task: its id, unless that (callers may choose one) is no plain name."""
    return task_id if _PLAIN_ID.fullmatch(task_id) else sha256(task_id.encode(errors="surrogatepass")).hexdigest()


class Workplace:
    """A hidden folder beside the original, removed when the attempt is over. All of it blocks."""

    def __init__(self, target: Path, task_id: str) -> None:
        self._target = target
        self._prefix = f".work-{folder_name(task_id)}-"
        self._folder: Path | None = None
        self._steps = 0
        #: What was put beside the original, with the inode by which it is known again.
        self._published: list[tuple[Path, int]] = []

    def open(self) -> None:
        """Make the folder; what earlier attempts of the task left behind (their worker was killed) goes first."""
        for left in self._target.iterdir():
            if left.name.startswith(self._prefix):
                shutil.rmtree(left, ignore_errors=True)
        # A name of its own: a worker that lost its claim and has not noticed may still write to the last one.
        self._folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._target))

    def remove(self) -> None:
        """Remove the folder with all that was not published."""
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
        """Write a file of ours, as a step writes its own."""
        path = self.step_folder() / name
        path.write_bytes(content)
        return path

    def publish(self, files: Sequence[Path]) -> list[Path]:
        """Put whole files beside the original, the first one last, and return where they are.

        Each is on disk before it gets its name; where one cannot be put there, none is.
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
        """Take back what was published, unless another attempt has put its own there meanwhile."""
        for target, inode in self._published:
            with contextlib.suppress(OSError):
                if target.stat().st_ino == inode:
                    target.unlink()
        self._published.clear()


def check_outputs(folder: Path, names: Sequence[str], taken: Sequence[Path]) -> list[Path]:
    """Return the outputs of a step; raises `TaskError` for one that is missing, or no file of its folder."""
    found: list[Path] = []
    for name in names:
        path = folder / name
        kind = 0
        with contextlib.suppress(OSError):
            kind = os.lstat(path).st_mode
        if not is_output_name(name) or not stat.S_ISREG(kind):
            raise TaskError(f"the processor named {name!r} as its output and did not write it", code="processor_failed")
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
