"""Ends a process that was told to stop and does not, for example because it waits for a store that does not answer."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import Final

log = logging.getLogger(__name__)

#: How long the parts of a process that stops may take, all together (seconds).
ENOUGH_S: Final = 8.0


def end_within(seconds: float, *, code: int = 0) -> None:
    """End this process after this time, if it has not ended by itself; may be called from a signal handler."""
    timer = threading.Timer(seconds, end_now, [f"it has not ended within {seconds:g} s", code])
    timer.daemon = True
    timer.start()


def end_now(why: str, code: int = 0) -> None:
    """End this process without waiting for anything; what it holds in the store goes back when its leases end."""
    log.warning("the process is ended, because %s", why)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
