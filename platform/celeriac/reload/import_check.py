"""Imports a project's tasks in a process of its own, and says whether that worked and which files it took.

The process that starts others so never has code of the project in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from celeriac.reload.project_files import IMPORTED_MARK, own_files, parent_pipe, project_files, read_file, write_files

#: If this variable exists, a process ends when it has imported what it needs.
ONLY_MARK: Final = "_CELERIAC_IMPORT_ONLY"
#: How the line of an error begins.
_SAYS: Final = "celeriac: "
#: The most that is kept of a process's own output, and of its list of files (bytes).
_KEPT: Final = 65_536
_MOST_LISTED: Final = 4_000_000
#: How long the last output of a process that has ended may take (seconds).
_LAST_WORDS_S: Final = 1.0


@dataclass(frozen=True)
class Checked:
    """What the imports of a project gave. `problem` is one sentence with file and line, None if there is none."""

    problem: str | None = None
    files: set[str] = field(default_factory=set)
    #: When the process began to read the files (seconds since the epoch).
    began: float = 0.0


def imports_command(modules: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that imports modules of task types."""
    program = "import sys; from celeriac.reload.import_check import main; sys.exit(main(sys.argv[1:]))"
    return (sys.executable, "-c", program, *modules)


async def check_imports(
    argv: Sequence[str], environ: Mapping[str, str], *, tie: Callable[[], None] | None = None
) -> Checked:
    """Run a command that only imports; it is killed if the caller is cancelled.

    `tie` is called in the new process, so that it ends with this one.
    """
    began = time.time()
    reader, writer = os.pipe()
    listing, said = bytearray(), bytearray()
    readers = [asyncio.ensure_future(_read(os.fdopen(reader, "rb", buffering=0), listing, most=_MOST_LISTED))]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**environ, ONLY_MARK: "1", IMPORTED_MARK: str(writer)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(writer,),
            preexec_fn=tie,
        )
    except BaseException:
        readers[0].cancel()
        raise
    finally:
        os.close(writer)
    assert process.stderr is not None
    readers.append(asyncio.ensure_future(_keep(process.stderr, said, most=_KEPT)))
    try:
        code = await process.wait()
        # A program that the project has started may hold the pipes open.
        await asyncio.wait(readers, timeout=_LAST_WORDS_S)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for reading in readers:
            reading.cancel()
    files = {file for line in listing.decode("utf-8", "replace").splitlines() if (file := read_file(line)) is not None}
    return Checked(None if code == 0 else _problem(said.decode("utf-8", "replace"), code), files, began)


async def _read(pipe: BinaryIO, kept: bytearray, *, most: int) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        await _keep(reader, kept, most=most)
    finally:
        transport.close()


async def _keep(reader: asyncio.StreamReader, kept: bytearray, *, most: int) -> None:
    """Read a stream to its end, and keep the last part of it."""
    while part := await reader.read(65_536):
        kept += part
        del kept[:-most]


def main(modules: Sequence[str]) -> int:
    """Import modules as each process does; returns the exit code. The core's own part of `check_imports`."""
    from celeriac.errors import SettingsError
    from celeriac.installation.discovery import import_from_here
    from celeriac.tasks.registry import load
    from celeriac.tasks.types import bulk, demo, file_process, grpc_task, remote  # noqa: F401 - their names are taken

    # Before any code of the project runs, which may start programs.
    parent_pipe()
    import_from_here()
    os.environ.pop(ONLY_MARK, None)
    try:
        load(modules)
    except SettingsError as exc:
        tell_files(exc)
        sys.stderr.write(f"\n{_SAYS}{exc}\n")
        return 2
    tell_files()
    return 0


def tell_files(error: BaseException | None = None) -> None:
    """Tell the parent process which files of the project this one has read, also those that an error names."""
    from celeriac.installation.importing import files_of

    named = [] if error is None else own_files(files_of(error))
    if (pipe := parent_pipe()) is not None:
        write_files(pipe, {*project_files(), *named})


def _problem(said: str, code: int) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    ours = [line.removeprefix(_SAYS) for line in lines if line.startswith(_SAYS)]
    if ours:
        return ours[-1]
    last = f": {lines[-1].strip()}" if lines else ""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"importing the tasks failed: the process {how}{last}"
