"""A terminal: one shell that runs commands one after another, with our programs from the server of warm Pythons."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import psutil

from tests.kit.command_line import clean_environment

#: Programs that the shell finds, and what they are.
_PROGRAMS = {
    "celeriac": ["-m", "celeriac"],
    "celery": ["-m", "celery"],
    "python": [],
    "uvicorn": ["-m", "uvicorn"],
}
#: What stands in the shell's path for each of them: it passes its files on, and waits for the exit code.
_STAND_IN = """#!{python} -ISE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as terminal:
    terminal.connect({address!r})
    socket.send_fds(terminal, [json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
    code = terminal.recv(16)
sys.exit(int(code or 1))
"""
_MESSAGE_BYTES = 1 << 18
#: How long a command may take on a machine that is busy with other things; one of them is pytest with two platforms.
_PATIENCE_S = 150.0


class Terminal:
    """A shell in a folder. Leaving the context kills it and all that it started."""

    def __init__(self, folder: Path, home: Path) -> None:
        """`home` is an empty folder, outside of what the commands work on."""
        self.folder = folder
        self.logs: list[Path] = []
        self._home = home
        self._programs: list[subprocess.Popen[bytes]] = []
        #: Held where a program starts, so that none starts after the end.
        self._starting = threading.Lock()
        self._ended = False
        # The path of a socket has to be short.
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(f"\0celeriac-docs-{os.getpid()}-{id(self)}")
        self._listener.listen(20)
        self._put_stand_ins()
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, text=True,
            env=_environment() | {"PATH": f"{home}:{os.environ['PATH']}", "COLUMNS": "200"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        # A refusal by HTTP is a failure of the command.
        self.run('curl() { command curl --fail-with-body "$@"; }')
        return self

    def __exit__(self, *exc: object) -> None:
        with self._starting:
            self._ended = True
        self._listener.close()
        self._shell.kill()
        # The number of one that has ended may be another program's by now.
        running = [program for program in self._programs if program.poll() is None]
        for process in [found for program in running for found in _family(program.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for program in [self._shell, *self._programs]:
            program.wait(10)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        ending = threading.Timer(_PATIENCE_S, self._shell.kill)
        ending.start()
        try:
            self._shell.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n<ended %d>\\n' $?\n")
            self._shell.stdin.flush()
            said: list[str] = []
            for line in self._shell.stdout:
                if found := re.fullmatch(r"<ended (\d+)>\n", line):
                    return int(found[1]), "".join(said).rstrip("\n")
                said.append(line)
        finally:
            ending.cancel()
        raise AssertionError(f"{command} did not end within {_PATIENCE_S} s; it said:\n{''.join(said)}")

    def start(self, command: str) -> Path:
        """Run a command in the background; return the file with what it prints."""
        self.logs.append(self._home / f"{len(self.logs)}.log")
        self.logs[-1].touch()
        code, said = self.run(f"{command} > {self.logs[-1]} 2>&1 &")
        assert code == 0, said
        return self.logs[-1]

    def _put_stand_ins(self) -> None:
        address = self._listener.getsockname().decode()
        for name in _PROGRAMS:
            path = self._home / name
            path.write_text(_STAND_IN.format(python=sys.executable, address=address, name=name))
            path.chmod(0o755)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._run_program, args=(connection,), daemon=True).start()

    def _run_program(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            message, files, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 3)
            name, arguments, folder, environ = json.loads(message)
            stdin, stdout, stderr = files
            with self._starting:
                if self._ended:
                    return
                program = subprocess.Popen(
                    [sys.executable, *_PROGRAMS[name], *arguments],
                    stdin=stdin, stdout=stdout, stderr=stderr, cwd=folder, env=environ,
                )  # fmt: skip
                self._programs.append(program)
            for file in files:
                os.close(file)
            code = program.wait()
            connection.send(str(code if code >= 0 else 128 - code).encode())


def _environment() -> dict[str, str]:
    # Without what pytest tells the tests inside of it.
    return {name: value for name, value in clean_environment().items() if not name.startswith("PYTEST_")}


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.send_signal(signal.SIGSTOP)  # what it would start again stays ended
        return [process, *process.children(recursive=True)]
    return []
