"""How much memory a worker's process and its children have, as the kernel counts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def resident_bytes() -> int | None:
    """Return the resident memory of this process and its children, None where the system has no `/proc`.

    Memory that they share counts for each of them, as in `ps`.
    """
    own = _resident(os.getpid())
    return None if own is None else own + sum(_resident(pid) or 0 for pid in _children(os.getpid()))


def _resident(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int((_PROCESSES / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _children(pid: int) -> Iterator[int]:
    found: list[int] = []
    with suppress(OSError, ValueError):
        for thread in (_PROCESSES / str(pid) / "task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    for child in found:
        yield child
        yield from _children(child)
