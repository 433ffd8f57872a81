"""Processes that are killed as soon as they work, again and again: forked from one that has imported everything.

A Python process of ours imports for most of a second before it does anything, and a test that kills twenty of them
waits for little else. So these come from the `forkserver` of the standard library: a process that imports
`PRELOADED` and then does nothing but fork. It has one thread, no event loop, and no connection to anything, so that
its children start as if they had imported it all themselves. Each of them is a process of its own: its own pid and
connections, and really killed by SIGKILL.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

#: What the server imports: the functions that tests run in processes of their own, and all that those need.
PRELOADED = ["tests.kit.chaos.beat_process", "tests.kit.chaos.grpc_process", "tests.kit.chaos.recorder_process"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


class ForkedProcess:
    """`function(*arguments)` in a process of its own, from now on until it ends or is killed.

    The function is one of a module's top level. Its environment is `environment` (left out: ours), its folder ours,
    its standard input empty; what it prints goes where the test's output goes, or is read with `line` if `piped`.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> None:
        ours, theirs = _context.Pipe(duplex=False) if piped else (None, None)
        chosen = dict(os.environ if environment is None else environment)
        self._process = _context.Process(target=_run, args=(function, arguments, chosen, theirs), daemon=True)
        self._process.start()
        self._stdout = None
        if ours is not None and theirs is not None:
            theirs.close()
            self._stdout = os.fdopen(os.dup(ours.fileno()))
            ours.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, as `subprocess` says it: -9 if SIGKILL did it, None while it runs."""
        return self._process.exitcode

    def line(self) -> str:
        """Wait for its next line and return that with its end; empty when it says no more. Only if `piped`."""
        assert self._stdout is not None
        return self._stdout.readline()

    def kill(self) -> None:
        """Kill it as `kill -9` does, if it still runs."""
        if self.exit_code is None:
            self._process.kill()

    def wait(self) -> int:
        """Wait until it has ended and return its exit code."""
        self._process.join()
        if self._stdout is not None:
            self._stdout.close()
        assert self.exit_code is not None
        return self.exit_code


def _run(
    function: Callable[..., object], arguments: tuple[str, ...], environment: dict[str, str], stdout: Connection | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if stdout is not None:
        os.dup2(stdout.fileno(), 1)
        stdout.close()
    function(*arguments)
