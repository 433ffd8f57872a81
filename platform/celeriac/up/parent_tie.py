"""Tie a child process to its parent: the child ends with the parent, however the parent ends.

On Linux the kernel sends the child a signal of our choice when the parent dies. On other systems the child watches its
standard input, a pipe whose other end only the parent holds: the kernel closes it when the parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

#: If this variable exists, the child must watch its standard input.
STDIN_MARK = "_CELERIAC_STDIN_IS_PARENT"

#: Names a worker that one command has started together with others: the id of the command's process, and a number.
WORKER_MARK = "_CELERIAC_WORKER_PROCESS"

#: Whether the kernel can send the signal.
BY_KERNEL = sys.platform == "linux"

_PR_SET_PDEATHSIG = 1
_EXIT_ORPHANED = 70


def tie_by_kernel(orphan_signal: signal.Signals) -> Callable[[], None] | None:
    """Return the function that a child must call between fork and exec to get `orphan_signal` when its parent dies.

    Returns None if the kernel cannot do it. The kernel watches the *thread* that forks, so the main thread must fork,
    which lives as long as the process.
    """
    if not BY_KERNEL:
        return None
    # Everything is looked up here: in the child, only calls that need no lock are safe.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    number, parent = int(orphan_signal), os.getpid()
    getppid, leave = os.getppid, os._exit

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if getppid() != parent:  # the parent died before the line above
            leave(_EXIT_ORPHANED)

    return tie


def watch_stdin(on_end: Callable[[], object] | None = None) -> None:
    """Call `on_end` (default: end this process at once) when standard input ends, if the parent asked for that.

    The mark is removed from the environment, because children of this process have another standard input.
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
            # As abrupt as SIGKILL on Linux: other processes take over the running work when its leases expire.
            os._exit(_EXIT_ORPHANED)

    threading.Thread(target=wait_for_end, name="parent-watch", daemon=True).start()
