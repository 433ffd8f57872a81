"""Keep child processes running: start them, watch them, start them again, and end them together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from celeriac.reload.project_files import IMPORTED_MARK, read_file
from celeriac.up.child_output import LineReader
from celeriac.up.heartbeat import BEATS_MARK, STACK_SIGNAL, pause_s, watch
from celeriac.up.parent_tie import BY_KERNEL, STDIN_MARK, tie_by_kernel

#: The first and the longest pause before a child is started again (seconds).
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 5.0
#: A child that lived this long (seconds) counts as healthy: its next pause is the first one again.
HEALTHY_AFTER_S = 30.0
#: How long the last lines of a dead child may take to arrive (seconds).
_DRAIN_S = 1.0
#: How long a stuck child may take to write its stacks (seconds).
_SHOW_S = 1.0


@dataclass(frozen=True)
class ChildSpec:
    """A child to keep running: its name and how it is started."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path | None = None
    #: The signal that the kernel sends it when this process dies.
    orphan_signal: signal.Signals = signal.SIGKILL
    #: It is killed and started again if its event loop sends no beat for so long (seconds); 0 means it sends none.
    stuck_after_s: float = 0
    #: Its umask; -1: that of this process.
    umask: int = -1
    #: Whether it writes to this process's own standard output and error, instead of to `on_line`.
    inherits_output: bool = False
    #: Whether it tells which files of the project it has imported (`report_imports`).
    reports_imports: bool = False


def restart_delay_s(deaths: int) -> float:
    """Return the pause (seconds) after this many deaths in a row (1 = the first)."""
    return float(min(FIRST_DELAY_S * 2 ** min(deaths - 1, 10), LONGEST_DELAY_S))


def describe_exit(returncode: int) -> str:
    """Return in words how a process ended; `returncode` is that of `Popen`."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


@dataclass
class _Child:
    spec: ChildSpec
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    process: subprocess.Popen[bytes] | None = None
    exited: asyncio.Future[int] | None = None
    deaths: int = 0
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps roles running until they are stopped.

    It must be used from the event loop of the main thread: children are tied to the thread that forks them, and SIGCHLD
    tells of their end. Every child leads its own session, so Ctrl-C in a terminal reaches only this process, and the
    processes that a child leaves behind can be ended as a group. `on_line(role, line)` receives the children's output
    and the supervisor's own lines (role `up`); `on_pids(pids)` is called whenever a child is started, and
    `on_imported(file, began)` for each file of the project that a child has imported which started at that time.
    """

    def __init__(
        self,
        *,
        on_line: Callable[[str, str], None],
        on_pids: Callable[[dict[str, int]], None],
        on_imported: Callable[[str, float], None] = lambda file, began: None,
    ) -> None:
        self._on_line = on_line
        self._on_pids = on_pids
        self._on_imported = on_imported
        self._children: dict[str, _Child] = {}

    async def start(self) -> None:
        """Begin to listen for the end of children."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def run(self, spec: ChildSpec) -> None:
        """Start a child and keep it running."""
        if spec.name in self._children:
            raise ValueError(f"the role {spec.name!r} is already running")
        child = self._children[spec.name] = _Child(spec)
        child.task = asyncio.create_task(self._keep_running(child), name=f"supervise {spec.name}")

    @property
    def pids(self) -> dict[str, int]:
        """The running children: role → process id."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.returncode is None
        }

    @property
    def names(self) -> list[str]:
        """The roles that were started and not stopped."""
        return list(self._children)

    def deaths(self, name: str) -> int:
        """Return how many times in a row a role died soon after its start."""
        return self._children[name].deaths

    async def stop(self, names: Iterable[str] | None = None, *, timeout_s: float) -> None:
        """End roles (default: all) together: SIGTERM, and SIGKILL after `timeout_s`. Idempotent."""
        children = [self._children[name] for name in (list(self._children) if names is None else names)]
        tasks = [child.task for child in children if child.task is not None]
        for child in children:
            child.stopping.set()
            self._signal(child, signal.SIGTERM)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            if late:
                for child in children:
                    if child.task in late:
                        self._on_line(
                            "up", f"{child.spec.name} did not stop within {round(timeout_s, 1):g} s: killing it"
                        )
                        self._signal_group(child, signal.SIGKILL)
                await asyncio.wait(late)
        for child in children:
            self._children.pop(child.spec.name, None)

    async def restart(self, names: Iterable[str], *, grace_s: float, timeout_s: float) -> None:
        """End roles as `stop` does and start them anew; SIGTERM comes again after `grace_s`.

        If it is cancelled, roles that have not ended yet are left to `stop`, and none is started.
        """
        children = [self._children[name] for name in names if name in self._children]
        hurry = asyncio.get_running_loop().call_later(grace_s, self._signal_all, children)
        try:
            await self.stop([child.spec.name for child in children], timeout_s=timeout_s)
        finally:
            hurry.cancel()
        for child in children:
            self.run(child.spec)

    def _signal_all(self, children: Iterable[_Child]) -> None:
        for child in children:
            self._signal(child, signal.SIGTERM)

    def kill(self) -> None:
        """Kill everything at once. A `stop` that is waiting returns then."""
        for child in self._children.values():
            child.stopping.set()
            self._signal_group(child, signal.SIGKILL)

    async def _keep_running(self, child: _Child) -> None:
        clock = asyncio.get_running_loop().time
        while not child.stopping.is_set():
            started = clock()
            how = await self._run_once(child)
            if child.stopping.is_set():
                return
            child.deaths = 1 if clock() - started >= HEALTHY_AFTER_S else child.deaths + 1
            delay = restart_delay_s(child.deaths)
            self._on_line("up", f"{child.spec.name} {how}: starting it again in {delay:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.stopping.wait(), delay)

    async def _run_once(self, child: _Child) -> str:
        """Run the child once; returns in words how it ended."""
        loop = asyncio.get_running_loop()
        imported, theirs = os.pipe() if child.spec.reports_imports else (None, None)
        began = time.time()
        try:
            process, beats = self._spawn(child.spec, theirs)
        except OSError as exc:
            if imported is not None:
                os.close(imported)
            return f"cannot be started ({exc.strerror or exc}: {exc.filename or child.spec.argv[0]})"
        finally:
            if theirs is not None:
                os.close(theirs)
        child.process, child.exited = process, loop.create_future()
        output: tuple[asyncio.ReadTransport, LineReader] | None = None
        if process.stdout is not None:
            output = await loop.connect_read_pipe(
                lambda: LineReader(lambda line: self._on_line(child.spec.name, line)), process.stdout
            )
        if imported is not None:
            # It ends with the last process that writes to it.
            pipe = os.fdopen(imported, "rb", buffering=0)
            await loop.connect_read_pipe(lambda: LineReader(lambda line: self._imported(line, began)), pipe)
        watching = self._watch(child, beats) if beats is not None else None
        self._on_pids(self.pids)
        if child.stopping.is_set():  # `stop` was called between fork and here
            self._signal(child, signal.SIGTERM)
        self._reap()  # its SIGCHLD may have arrived before `exited` was there
        returncode = await child.exited
        if watching is not None and beats is not None:
            watching.cancel()
            beats.close()
        # Its own children must end too: they would hold ports, or run unsupervised.
        self._signal_group(child, signal.SIGKILL)
        if output is not None:
            transport, reader = output
            await asyncio.wait([reader.closed], timeout=_DRAIN_S)
            transport.close()
        if process.stdin is not None:
            process.stdin.close()
        child.process = child.exited = None
        return describe_exit(returncode)

    def _imported(self, line: str, began: float) -> None:
        if (file := read_file(line)) is not None:
            self._on_imported(file, began)

    def _spawn(self, spec: ChildSpec, imported: int | None) -> tuple[subprocess.Popen[bytes], socket.socket | None]:
        """Start a process; returns also our end of its standard input, if it sends beats there.

        `imported` is the pipe to which it writes what it has imported.
        """
        environ = dict(spec.environ)
        if imported is not None:
            environ[IMPORTED_MARK] = str(imported)
        if not BY_KERNEL:
            environ[STDIN_MARK] = "1"
        ours: socket.socket | None = None
        with contextlib.ExitStack() as both:
            stdin = subprocess.DEVNULL if BY_KERNEL else subprocess.PIPE
            if spec.stuck_after_s:
                environ[BEATS_MARK] = str(pause_s(spec.stuck_after_s))
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                stdin = both.enter_context(theirs).fileno()
            try:
                process = subprocess.Popen(  # noqa: S603 - the operator's own command lines
                    spec.argv,
                    env=environ,
                    cwd=spec.cwd,
                    stdin=stdin,
                    stdout=None if spec.inherits_output else subprocess.PIPE,
                    stderr=None if spec.inherits_output else subprocess.STDOUT,
                    bufsize=0,
                    start_new_session=True,
                    umask=spec.umask,
                    pass_fds=() if imported is None else (imported,),
                    preexec_fn=tie_by_kernel(spec.orphan_signal),
                )
            except OSError:
                if ours is not None:
                    ours.close()
                raise
        return process, ours

    def _watch(self, child: _Child, beats: socket.socket) -> asyncio.Task[None]:
        assert child.process is not None
        stuck = functools.partial(self._unstick, child)
        watched = watch(beats, child.process.pid, limit_s=child.spec.stuck_after_s, on_stuck=stuck)
        return asyncio.create_task(watched, name=f"heartbeat of {child.spec.name}")

    async def _unstick(self, child: _Child, silent_s: float) -> None:
        """Let a child whose event loop is stuck show where it is, and kill it."""
        if child.stopping.is_set():
            return
        name = child.spec.name
        self._on_line(
            "up",
            f"the event loop of {name} has been stuck for {silent_s:.0f} s: killing {name} (setting up.stuck_after)."
            " If it still can, it says first where it is:",
        )
        if STACK_SIGNAL is not None:
            self._signal(child, STACK_SIGNAL)
            await asyncio.sleep(_SHOW_S)
        self._signal_group(child, signal.SIGKILL)

    def _reap(self) -> None:
        for child in self._children.values():
            if child.process is None or child.exited is None or child.exited.done():
                continue
            returncode = child.process.poll()
            if returncode is not None:
                child.exited.set_result(returncode)

    def _signal(self, child: _Child, number: signal.Signals) -> None:
        if child.process is not None and child.process.returncode is None:
            child.process.send_signal(number)

    def _signal_group(self, child: _Child, number: signal.Signals) -> None:
        if child.process is not None:
            # The leader may be gone: the group exists as long as one member does.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, number)
