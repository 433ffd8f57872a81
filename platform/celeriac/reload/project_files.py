"""Which files a process has imported that are the project's own, and how it tells its parent process."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from celeriac import json_text
from celeriac.errors import JsonError

#: If this variable exists, its value is the file descriptor to which a process writes what it imports.
IMPORTED_MARK: Final = "_CELERIAC_IMPORTED_FD"
#: How often a process looks whether it has imported more (seconds).
_LOOK_S: Final = 1.0
#: A pipe takes so much at once without mixing it with what other processes write (bytes, POSIX).
_AT_ONCE: Final = 512
#: Packages of ours, which do not belong to the project wherever they are installed.
_OURS: Final = ("celeriac", "celeriac_api", "celeriac_tasks", "celeriac_proto")


def project_files() -> set[str]:
    """Return the files of all modules of this process that belong neither to Python, nor to packages, nor to us."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return set(own_files(file for file in files if isinstance(file, str)))


def own_files(files: Iterable[str]) -> Iterable[str]:
    """Yield those files that are the project's own, absolute."""
    for file in files:
        path = os.path.abspath(file)
        if file.endswith(".py") and not path.startswith(_foreign()) and os.path.isfile(path):
            yield path


@cache
def _foreign() -> tuple[str, ...]:
    """Return how the paths of files begin that are not the project's own."""
    paths = sysconfig.get_paths()
    folders = {paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    for name in _OURS:
        found = sys.modules.get(name)
        # A namespace package or one that is not installed has no file.
        if (file := getattr(found, "__file__", None)) is not None:
            folders.add(str(Path(file).parent))
    return tuple(os.path.join(spelled, "") for folder in folders for spelled in {folder, os.path.realpath(folder)})


class _Listener:
    """The parent process that has asked what this one imports."""

    #: The pipe to it; None if it has not asked.
    pipe: int | None = None


def parent_pipe() -> int | None:
    """Return the pipe to the parent process that has asked what this one imports, None if it has not."""
    number = os.environ.pop(IMPORTED_MARK, None)
    if number is not None:
        _Listener.pipe = int(number)
        # Programs that this process starts have other files under this number.
        os.set_inheritable(_Listener.pipe, False)
    return _Listener.pipe


def report_imports() -> None:
    """Tell the parent process what this one imports, now and later, if it has asked for that.

    A forked child calls it again.
    """
    pipe = parent_pipe()
    if pipe is not None:
        threading.Thread(target=_report, args=(pipe,), name="imported-files", daemon=True).start()


def _report(pipe: int) -> None:
    told: set[str] = set()
    seen = -1
    while True:
        if len(sys.modules) != seen:
            seen = len(sys.modules)
            found = project_files() - told
            if not write_files(pipe, found):
                return
            told |= found
        time.sleep(_LOOK_S)


def write_files(pipe: int, files: Iterable[str]) -> bool:
    """Write files to the parent process, one JSON text a line; returns whether it still listens."""
    for file in sorted(files):
        data = f"{json_text.describe(file)}\n".encode()
        if len(data) <= _AT_ONCE:
            try:
                os.write(pipe, data)
            except OSError:
                return False
    return True


def read_file(line: str) -> str | None:
    """Return the file that a line of `write_files` names."""
    try:
        found = json_text.read(line)
    except JsonError:
        return None
    return found if isinstance(found, str) else None
