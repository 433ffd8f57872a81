"""A process that hands one file over and is killed before or after the n-th step, for every n, in children of its own.

Arguments: a scratch folder, and the folder that sources are in (of the storage's file system, or of another).
Prints one JSON list: for each run its source, the task's id, whether the record was "stored", how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celeriac.files.file_system import FileSystem
from celeriac.files.handoff import Handoff
from celeriac.files.roots import AllowedRoots

CONTENT = b"content of a file " * 50_000


class MortalFileSystem(FileSystem):
    """Kills the process at its n-th step: just before it, or just after it."""

    def __init__(self, die_at: int) -> None:
        self._left = die_at

    def count(self) -> None:
        """One step nearer to the end."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _mortal(method: Callable[..., Any]) -> Callable[..., Any]:
    def stepping(self: MortalFileSystem, *arguments: Any, **options: Any) -> Any:
        self.count()
        result = method(self, *arguments, **options)
        self.count()
        return result

    return stepping


for _name, _method in list(vars(FileSystem).items()):
    if not _name.startswith("_"):
        setattr(MortalFileSystem, _name, _mortal(_method))


def one_run(storage: Path, source: Path, task_id: str, records: Path, die_at: int, *, refused: bool) -> None:
    """What `Files` does, with a file as the store of records."""
    disk = MortalFileSystem(die_at)
    handoff = Handoff(storage, disk=disk)
    handoff.prepare()
    roots = AllowedRoots([source.parent], protected=[storage])
    handed = handoff.take(roots.open(str(source)), task_id, "original.mp4")
    disk.count()
    if refused:
        handoff.give_back(handed)
        return
    (records / task_id).touch()
    disk.count()
    handoff.finish(handed)


def main() -> None:
    scratch, sources = Path(sys.argv[1]), Path(sys.argv[2])
    storage, records = scratch / "storage", scratch / "records"
    records.mkdir()
    runs = []
    for refused in (False, True):
        for die_at in range(1, 100):
            source, task_id = sources / f"{refused}-{die_at}.mp4", str(uuid.uuid4())
            source.write_bytes(CONTENT)
            pid = os.fork()
            if pid == 0:
                one_run(storage, source, task_id, records, die_at, refused=refused)
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            killed = os.WIFSIGNALED(status)
            runs.append({"source": str(source), "task_id": task_id, "killed": killed, "step": die_at})
            if not killed:
                assert os.WEXITSTATUS(status) == 0
                break
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
