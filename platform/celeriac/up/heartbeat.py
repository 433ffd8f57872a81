"""Tells a parent process that the event loop of a child runs, and finds out there that it is stuck.

The standard input of a watched child is a socket. The child's event loop writes a byte to it now and then. The parent
counts the time without a byte in which the child could have run: a machine that sleeps or is overloaded counts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

#: If this variable exists, the child must write to its standard input; its value is the pause in between (seconds).
BEATS_MARK: Final = "_CELERIAC_STDIN_BEATS"
#: The signal at which a watched child writes the stacks of its threads.
STACK_SIGNAL: Final = getattr(signal, "SIGUSR2", None)
#: The states of a process that could not run more than it did: it runs or wants to, or waits for a disk.
_RUNS: Final = ("R", "D")
_LONGEST_PAUSE_S: Final = 1.0
_BEATS_PER_LIMIT: Final = 10


def pause_s(limit_s: float) -> float:
    """Return the pause between two beats of a child that counts as stuck after `limit_s` without one."""
    return min(_LONGEST_PAUSE_S, limit_s / _BEATS_PER_LIMIT)


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Send beats from this event loop, if the parent asked for them."""
    pause = os.environ.pop(BEATS_MARK, None)
    if pause is None:
        yield
        return
    if STACK_SIGNAL is not None:
        # Standard error may be closed.
        with contextlib.suppress(AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.register(STACK_SIGNAL, sys.stderr, all_threads=True)
    sending = asyncio.create_task(_beat(float(pause)), name="heartbeat")
    try:
        yield
    finally:
        sending.cancel()


async def _beat(pause: float) -> None:
    with socket.socket(fileno=os.dup(0)) as parent:
        while True:
            try:
                parent.send(b".", socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # the parent is busy; it has enough beats to read
            except OSError:
                return  # the parent is gone
            await asyncio.sleep(pause)


class Silence:
    """Counts how long a child has been silent although it could have run (seconds). Pure."""

    def __init__(self) -> None:
        self.seconds = 0.0
        #: Whether a beat has come. Until then the child starts, which may take long.
        self.begun = False

    def beat(self) -> None:
        """Note a beat."""
        self.seconds, self.begun = 0.0, True

    def tick(self, *, planned_s: float, passed_s: float, cpu_s: float | None) -> None:
        """Note that `passed_s` went by instead of `planned_s`, in which the child was silent.

        `cpu_s` is how long it ran, if it wanted to run all the time; None if it waited for something or was stopped.
        """
        if not self.begun or passed_s > 2 * planned_s:
            return  # this process did not run either: the machine slept, or is overloaded
        self.seconds += passed_s if cpu_s is None else min(cpu_s, passed_s)


async def watch(ours: socket.socket, pid: int, *, limit_s: float, on_stuck: Callable[[float], Awaitable[None]]) -> None:
    """Read the beats of the child `pid`, and call `on_stuck` once when it has been silent for `limit_s`."""
    loop = asyncio.get_running_loop()
    silence, pause, used = Silence(), pause_s(limit_s), 0.0
    while silence.seconds < limit_s:
        begun = loop.time()
        await asyncio.sleep(pause)
        if _heard(ours):
            silence.beat()
        waits, now_used = _state(pid)
        silence.tick(planned_s=pause, passed_s=loop.time() - begun, cpu_s=None if waits else now_used - used)
        used = now_used
    await on_stuck(silence.seconds)


def _heard(ours: socket.socket) -> bool:
    try:
        return bool(ours.recv(65536))
    except OSError:
        return False


def _state(pid: int) -> tuple[bool, float]:
    """Return whether a process waits or is stopped, and how long it has run on a processor (seconds).

    Only Linux says it in this way. Elsewhere every process counts as one that waits.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return fields[0] not in _RUNS, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return True, 0.0
