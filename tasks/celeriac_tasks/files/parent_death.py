"""Children that do not outlive their parents, not even one that was killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

#: prctl(2): the signal that this process gets when the thread that started it ends.
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends; ends it now if that has happened already.

    Only Linux can do that; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
