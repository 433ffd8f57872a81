"""Makes a child process end with its parent, even if the parent is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

#: prctl(2): sets the signal that this process receives when the thread that started it ends.
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends; kills it now if the parent has already ended.

    Only Linux supports this; on other systems the function does nothing.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
