"""Runs tests while their processes stall now and then, as on a machine with too much to do.

    python tools/test_stalls.py tests/integration/store
    python tools/test_stalls.py --seed 7 --longest 2 -- -n 3 -x tests/integration/engine

One process at a time is stopped, of all that the tests started: a process of pytest, a worker, a Valkey, a shell. After
a moment it goes on. A test that counts on what happens within a second fails here sooner than under load.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from typing import Final

import psutil

#: Browsers tell of stalls by themselves.
_LEFT_OUT: Final = ("chrom", "node")


def main() -> int:
    """Run pytest with stalls; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="which process stalls when")
    parser.add_argument("--longest", type=float, default=1.2, help="how long a stall is at most (seconds)")
    parser.add_argument("--pause", type=float, default=1.0, help="how long none stalls, on average (seconds)")
    parser.add_argument("arguments", nargs="*", help="arguments of pytest")
    given = parser.parse_args()
    chance = random.Random(given.seed)  # noqa: S311 - the same stalls for the same seed
    tests = psutil.Popen([sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *given.arguments])
    stalls = 0
    while tests.poll() is None:
        time.sleep(chance.expovariate(1 / given.pause))
        if (process := _one_of(tests, chance)) is not None:
            stalls += _stall(process, chance.uniform(min(0.1, given.longest), given.longest))
    print(f"{stalls} stalls, seed {given.seed}")
    return int(tests.returncode)


def _one_of(tests: psutil.Process, chance: random.Random) -> psutil.Process | None:
    """Return a process that the tests started and that runs, if there is one."""
    try:
        started = tests.children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    running = [process for process in started if _runs(process)]
    return chance.choice(running) if running else None


def _runs(process: psutil.Process) -> bool:
    try:
        # What a test has stopped is left to the test.
        stopped = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return not stopped and not any(name in process.name() for name in _LEFT_OUT)
    except psutil.NoSuchProcess:
        return False


def _stall(process: psutil.Process, seconds: float) -> bool:
    """Stop a process for so long; return whether it was there."""
    try:
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
