"""Standard output and error as nobody wants them: closed, full, without a reader, in an encoding of few letters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit.command_line import CELERIAC, clean_environment

_BROKEN = ("closed", "full", "unread")


@dataclass(frozen=True)
class Closed:
    """Run in a process before its program: close these standard files, as a shell does for `>&-`."""

    numbers: tuple[int, ...]

    def __call__(self) -> None:
        for number in self.numbers:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)


@contextmanager
def broken_output(kind: str) -> Iterator[dict[str, Any]]:
    """Yield the options of a process whose standard output is `closed`, `full`, `unread`, or in an encoding."""
    if kind == "closed":
        yield {"preexec_fn": Closed((1,)), "stdout": subprocess.DEVNULL}
    elif kind == "full":
        with open("/dev/full", "wb") as full:
            yield {"stdout": full}
    elif kind == "unread":
        reader, writer = os.pipe()
        os.close(reader)
        try:
            yield {"stdout": writer}
        finally:
            os.close(writer)
    else:
        yield {"stdout": subprocess.PIPE}


def run_with(kind: str, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of ours with such an output to its end."""
    if kind not in _BROKEN:
        environ["PYTHONIOENCODING"] = kind
    with broken_output(kind) as options:
        return subprocess.run(
            [*CELERIAC, *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=clean_environment(COLUMNS="200", **environ),
            cwd=cwd,
            timeout=60,
            **options,
        )
