"""How tasks of the tests are held up: until something is true, and not for as long as a machine happens to take."""

from __future__ import annotations

import time
from collections.abc import Callable

#: A task that waits longer has been forgotten, and fails: longer than a test is patient (seconds).
_MOST_S = 300.0


def wait_until(holds: Callable[[], object]) -> None:
    """Hold this thread up until something is true."""
    deadline = time.monotonic() + _MOST_S
    while not holds():
        assert time.monotonic() < deadline, f"nobody let it go within {_MOST_S:g} s"
        time.sleep(0.02)
