"""A module for `imports` that blocks the main thread of its process for some seconds when it receives SIGUSR1."""

from __future__ import annotations

import signal
import time

#: How long (seconds).
BLOCK_S = 12.0

signal.signal(signal.SIGUSR1, lambda *_: time.sleep(BLOCK_S))
