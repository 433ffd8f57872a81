"""Programs that come from the server of warm Python processes are like any others, but for the time they take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from celeriac.up import supervisor
from tests.kit.children import children_with
from tests.kit.up.running_up import RunningUp

INTRODUCTION = """
import json, os, signal, sys
warm = "celeriac_api.app" in sys.modules
print(json.dumps([sys.argv, os.getpid(), os.getppid(), os.getcwd(), os.environ.get("MARK"), warm]), flush=True)
print("to standard error", file=sys.stderr)
if sys.argv[1] == "read":
    print(sys.stdin.read(), end="")
elif sys.argv[1] == "wait":
    signal.pause()
else:
    sys.exit(int(sys.argv[1]))
"""


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", INTRODUCTION, *arguments], capture_output=True, text=True, check=False, **options
    )


@contextmanager
def waiting() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", INTRODUCTION, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())[1] == process.pid
            yield process
        finally:
            process.kill()


def test_a_program_has_its_own_arguments_folder_environment_files_and_exit_code(tmp_path: Path) -> None:
    done = run("7", cwd=tmp_path, env={"MARK": "me"})
    argv, pid, parent, folder, mark, warm = json.loads(done.stdout)
    assert (argv, folder, mark) == (["-c", "7"], str(tmp_path), "me")
    assert (parent, pid != parent) == (os.getpid(), True)
    assert (done.returncode, done.stderr) == (7, "to standard error\n")
    assert run("read", input="some text").stdout.endswith("]\nsome text")
    assert warm == bool(not os.environ.get("FRESH_PYTHON"))


@pytest.mark.fresh_python
def test_a_marked_test_gets_fresh_interpreters() -> None:
    assert json.loads(run("0").stdout)[-1] is False


def test_sigkill_ends_one_and_no_other() -> None:
    with waiting() as one, waiting() as two:
        one.kill()
        assert one.wait() == -signal.SIGKILL
        assert not psutil.pid_exists(one.pid)
        assert two.poll() is None
        two.terminate()
        assert two.wait() == -signal.SIGTERM


def test_what_they_are_forked_from_has_one_thread_and_no_connection() -> None:
    with waiting():
        for server in children_with("warm_python"):
            assert server.num_threads() == 1
            assert server.net_connections("inet") == []


async def test_the_processes_of_up_are_its_children_and_die_with_it(tmp_path: Path) -> None:
    with RunningUp(tmp_path / "data") as up:
        await up.ready()
        roles = up.run_json["pids"]
        assert {"api", "beat", "worker"} <= set(roles)
        assert {psutil.Process(pid).ppid() for pid in roles.values()} == {up.process.pid}
        processes = [psutil.Process(pid) for pid in roles.values()]
        up.process.kill()
        assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert supervisor.BY_KERNEL
