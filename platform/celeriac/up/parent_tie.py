"""Tie a child process to its parent, so that it never outlives it, however the parent ends.

On Linux the kernel sends a signal of our choice when the parent dies. Elsewhere the child watches
its standard input: a pipe that only the parent holds, and that the kernel closes with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

#: Set (to anything) in the environment of a child that is to watch its standard input.
STDIN_MARK = "_CELERIAC_STDIN_IS_PARENT"

#: Whether the kernel can do it.
BY_KERNEL = sys.platform == "linux"

_PR_SET_PDEATHSIG = 1
_EXIT_ORPHANED = 70


def tie_by_kernel(orphan_signal: signal.Signals) -> Callable[[], None] | None:
    """Return what a child must run between fork and exec to get `orphan_signal` when its parent dies.

    None where the kernel has no such thing. The signal follows the *thread* that forks, so fork
    from one that lives as long as the process: the main thread.
    """
    if not BY_KERNEL:
        return None
    # Everything is looked up now: in the child only calls that need no lock are safe.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    number, parent = int(orphan_signal), os.getpid()
    getppid, leave = os.getppid, os._exit

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if getppid() != parent:  # it died before the line above
            leave(_EXIT_ORPHANED)

    return tie


def watch_stdin(on_end: Callable[[], object] | None = None) -> None:
    """Call `on_end` (left out: end this process at once) when standard input ends, if the parent asked for that.

    The mark is taken out of the environment: children of this process have another standard input.
    """
    if os.environ.pop(STDIN_MARK, None) is None:
        return

    def wait_for_end() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        if on_end is not None:
            on_end()
        else:
            # As abrupt as the kernel's SIGKILL on Linux: what runs is taken over through its lease.
            os._exit(_EXIT_ORPHANED)

    threading.Thread(target=wait_for_end, name="parent-watch", daemon=True).start()
