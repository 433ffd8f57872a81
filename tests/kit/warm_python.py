"""Programs in Python that start at once: forked from a process that has imported everything.

A program of ours imports for one to two seconds of CPU before it does anything, and the suite starts hundreds. While
`install` is in force, a command line such as `[sys.executable, "-m", "celeriac", …]` is therefore not executed: a
server, which has imported our packages and does nothing but fork, makes a process that runs the same module with the
same arguments, environment, folder and files. It is a child of ours as any other, with a pid, signals and an exit code
of its own, and SIGKILL really kills it. Its own children are real programs again, except those of `celeriac up`, which
gets a server for itself.

What this cannot show is the start: the command on the path, the order of imports, what a module does with the
environment when it is imported. Tests of those are marked `fresh_python`. `FRESH_PYTHON=1` in the environment of a
program gives it an interpreter of its own, and in the environment of the tests, it does so for every program.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import os
import pickle
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

#: What is imported ahead: everything of ours but these, and what commands load of others when they run.
PACKAGES = ("celeriac_tasks", "celeriac", "celeriac_api")
_LEFT_OUT = (".__main__", ".contrib", ".testing", ".migrations", ".greenlets", "celeriac_tasks.celery")
_OTHERS = ("aiosqlite", "alembic.command", "celery.bin.celery", "celery.bin.worker", "markdown_it", "psycopg")
_REPOSITORY = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER, _PR_SET_PDEATHSIG = 36, 1
_MESSAGE_BYTES = 1 << 20
#: Where every program finds modules, whatever its folder is.
_installed: list[str] = []
#: Not `-m`: as `__main__` its classes would have another name on each side.
_SERVER = "from tests.kit.warm_python import main; main()"


#: Whether programs come from the server; otherwise each gets an interpreter of its own.
_warm = False


def install() -> None:
    """Let everything in this process that starts programs start them here."""
    subprocess.Popen = Popen  # type: ignore[misc]
    mend_sleep()


def mend_sleep() -> None:
    """Let `time.sleep` work under libfaketime, which refuses it (0.9.10) where the monotonic clock is left alone."""
    if "faketime" in os.environ.get("LD_PRELOAD", ""):
        time.sleep = lambda seconds: select.select([], [], [], seconds) and None


def use(warm: bool) -> None:
    """Say whether programs come from the server from now on, as far as this system can do that."""
    global _warm
    _warm = warm and sys.platform == "linux" and not os.environ.get("FRESH_PYTHON")


@contextlib.contextmanager
def fresh() -> Any:
    """While inside, every program gets an interpreter of its own."""
    global _warm
    before, _warm = _warm, False
    try:
        yield
    finally:
        _warm = before


_FreshPopen = subprocess.Popen
_OPTIONS = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class Popen(_FreshPopen[Any]):
    """A process, forked from the server if its command line is one of Python's that it can run."""

    def _execute_child(self, *given: Any) -> None:
        options = _OPTIONS.bind(self, *given).arguments
        environment = dict(os.environ if options["env"] is None else options["env"])
        fresh = not _warm or environment.get("FRESH_PYTHON")
        if fresh or _program_of(options["args"]) is None or options["pass_fds"]:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        request = _Request(
            command=[os.fspath(word) for word in options["args"]],
            environment=environment,
            folder=os.fspath(options["cwd"] or os.getcwd()),
            new_session=options["start_new_session"],
            parent=os.getpid(),
            before=options["preexec_fn"],
        )
        files = [options["p2cread"], options["c2pwrite"], options["errwrite"]]
        self.pid = _server().fork(request, [ours if file == -1 else file for ours, file in enumerate(files)])
        self._child_created = True
        self._close_pipe_fds(*(options[name] for name in _PIPES))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Request:
    """A program to run; its standard files travel beside it."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    new_session: bool
    parent: int
    before: Callable[[], object] | None


def _program_of(command: Sequence[Any] | str | bytes | os.PathLike[str]) -> tuple[str, list[str]] | None:
    """Return how to run a command line (`-m`, `-P -m`, `-c` or a file) and what follows; None: not from a server."""
    if isinstance(command, str | bytes | os.PathLike) or len(command) < 2 or command[0] != sys.executable:
        return None
    first, *rest = [os.fspath(word) for word in command[1:]]
    if first == "-P" and rest[:1] == ["-m"]:
        return "-P", rest[1:]
    if first in ("-m", "-c"):
        # pytest rewrites what it imports, and says so of what is there already.
        return None if rest[:1] == ["pytest"] else (first, rest)
    return ("file", [first, *rest]) if first.endswith(".py") else None


# --- the side that asks


class _Server:
    """The way to a server: one request at a time."""

    def __init__(self, connection: socket.socket, process: subprocess.Popen[Any] | None = None) -> None:
        self.owner = os.getpid()
        self._process = process
        self._connection = connection
        self._lock = threading.Lock()

    def fork(self, request: _Request, files: Sequence[int]) -> int:
        """Return the pid of a new child of ours."""
        with self._lock, _adopting_orphans():
            socket.send_fds(self._connection, [pickle.dumps(request)], files)
            answer = self._connection.recv(64)
        if not answer:
            raise RuntimeError("the server of warm Python processes has ended")
        return int(answer)


_servers: list[_Server] = []
_starting = threading.Lock()


def _server() -> _Server:
    """Return the server of this process; the first call starts it."""
    with _starting:
        if not _servers or _servers[0].owner != os.getpid():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")}
            with theirs:
                process = _FreshPopen(
                    [sys.executable, "-c", _SERVER, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()], cwd=_REPOSITORY, env=clean, stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            _servers[:] = [_Server(ours, process)]
    return _servers[0]


@contextlib.contextmanager
def _adopting_orphans() -> Any:
    """While inside, a process whose parent ends is ours: so a grandchild of the server becomes our child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


# --- the server


def main() -> None:
    """Import, and serve on the socket that the command line names."""
    mend_sleep()
    _import_ahead()
    # What follows the first entry is the same for every program.
    _installed[:] = sys.path[1:]
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection)


def serve(connection: socket.socket) -> None:
    """Fork what is asked for until the other side is gone. Returns in the server alone."""
    while True:
        message, files, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 3)
        if not message:
            return
        between = os.fork()
        if not between:
            # This one ends at once: the process that asked adopts its child.
            if os.fork():
                os._exit(0)
            _become(pickle.loads(message), files, connection)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def _import_ahead() -> None:
    for package in PACKAGES:
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not any(part in module.name for part in _LEFT_OUT):
                importlib.import_module(module.name)
    for name in _OTHERS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _become(request: _Request, files: list[int], connection: socket.socket) -> None:
    """Be the program until it ends. Never returns."""
    code = 1
    try:
        while os.getppid() != request.parent:
            # Not time.sleep: under libfaketime, it fails if so short a pause is over before it begins.
            select.select((), (), (), 0.0001)
        if request.new_session:
            os.setsid()
        for target, file in enumerate(files):
            os.dup2(file, target)
        connection.send(str(os.getpid()).encode())
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        time.tzset()
        _open_standard_files()
        if request.before is not None:
            request.before()
        code = _exit_code(lambda: _run(request.command))
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _open_standard_files() -> None:
    """Replace the standard files by new ones, as an interpreter opens them when it starts."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        file: Any = open(number, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(
            file,
            encoding=os.environ.get("PYTHONIOENCODING", "utf-8"),
            errors="backslashreplace" if name == "stderr" else "strict",
            line_buffering=name == "stderr" or os.isatty(number),
            write_through=unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(command: list[str]) -> object:
    """Run the program that the command line names, as the interpreter would."""
    found = _program_of(command)
    assert found is not None
    how, (name, *arguments) = found
    first = {"-m": [os.getcwd()], "-P": [], "-c": [""], "file": [os.path.dirname(os.path.abspath(name))]}[how]
    added = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [*first, *added, *_installed]
    sys.argv[:] = [name if how == "file" else how, *arguments]
    importlib.invalidate_caches()
    if how == "-m" and [name, *arguments[:1]] == ["celeriac", "up"]:
        _serve_children()
    else:
        # A program finds tests as a fresh one would: if its path leads to them.
        for module in [module for module in sys.modules if module.partition(".")[0] == "tests"]:
            del sys.modules[module]
    if how in ("-m", "-P"):
        return runpy.run_module(name, run_name="__main__", alter_sys=True)
    if how == "file":
        return runpy.run_path(name, run_name="__main__")
    main = sys.modules["__main__"] = ModuleType("__main__")
    return exec(compile(name, "<string>", "exec"), main.__dict__)


def _serve_children() -> None:
    """Give this process, `celeriac up`, a server for the processes that it will start."""
    from celeriac.up import supervisor

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = os.fork()
    if not server:
        _Tie(signal.SIGKILL)()
        ours.close()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for file in (0, 1, 2):
            os.dup2(nothing, file)
        serve(theirs)
        os._exit(0)
    theirs.close()
    _servers[:] = [_Server(ours)]
    atexit.register(_end, server, os.getpid())
    install()
    use(True)
    supervisor.tie_by_kernel = _Tie  # type: ignore[assignment]


def _end(process: int, parent: int) -> None:
    if os.getpid() == parent:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@dataclass(frozen=True)
class _Tie:
    """What `tie_by_kernel` returns, in a form that can be sent to the server."""

    orphan_signal: signal.Signals

    def __call__(self) -> None:
        _prctl(_PR_SET_PDEATHSIG, int(self.orphan_signal))


def _exit_code(program: Callable[[], object]) -> int:
    """Run a program and return its exit code, as the interpreter finds it."""
    try:
        program()
    except SystemExit as exc:
        if exc.code is None or isinstance(exc.code, int):
            return exc.code or 0
        print(exc.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> None:
    """End this process as the interpreter does, without the parts of it that only take time."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)
