"""End processes that an earlier `up` left running when it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from celeriac.installation.run_file import is_alive

#: Every child of `up` has this variable, by which it is recognised.
MARK = "CELERIAC_DATA_DIR"


async def end_leftovers(data_dir: Path, pids: Iterable[int], *, patience_s: float = 5.0) -> list[int]:
    """Wait until the children of an earlier `up` on `data_dir` are gone, and return those that had to be killed.

    The kernel ends them with their parent. That takes a moment, and longer for a store that still writes. A child that
    is left after `patience_s` is killed. Other processes that got the same id since then are not touched.
    """
    left = {pid for pid in (*pids, *_store_pid(data_dir)) if _is_ours(pid, data_dir)}
    clock = asyncio.get_running_loop().time
    asked, killed, started = False, False, clock()
    while left:
        await asyncio.sleep(0.02)
        left = {pid for pid in left if _is_ours(pid, data_dir)}
        # If the kernel did not end them: ask first, then insist.
        if not asked and clock() - started > patience_s / 5:
            asked = True
            _signal(left, signal.SIGTERM)
        if not killed and clock() - started > patience_s:
            killed = True
            _signal(left, signal.SIGKILL)
            late = sorted(left)
        if clock() - started > 2 * patience_s:
            break
    return late if killed else []


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _store_pid(data_dir: Path) -> list[int]:
    try:
        return [int((data_dir / "valkey" / "valkey.pid").read_text())]
    except (OSError, ValueError):
        return []


def _is_ours(pid: int, data_dir: Path) -> bool:
    """Return whether `pid` is a running child of an `up` on `data_dir`; false if that cannot be found out."""
    if pid <= 1 or pid == os.getpid() or not is_alive(pid):
        return False
    if sys.platform == "linux":
        return _is_ours_by_proc(Path("/proc") / str(pid), data_dir)
    try:
        answer = subprocess.run(  # noqa: S603
            ["/bin/ps", "-E", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return f"{MARK}={data_dir}" in answer.stdout or f"--data-dir {data_dir}" in answer.stdout


def _is_ours_by_proc(process: Path, data_dir: Path) -> bool:
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # it has ended, and its new parent has not collected it yet
            return False
        if f"{MARK}={data_dir}".encode() in (process / "environ").read_bytes().split(b"\0"):
            return True
        # The store overwrites its environment with its title, but no other process runs in its folder.
        return (process / "cwd").readlink() == data_dir / "valkey"
    except OSError:
        return False
