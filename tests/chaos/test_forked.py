"""What tests that kill forked processes rely on."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.kit.forked import PRELOADED, ForkedProcess


def introduce(name: str) -> None:
    """Say who this process is, and wait to be killed."""
    missing = [module for module in PRELOADED if module not in sys.modules]
    print(json.dumps([name, os.getpid(), os.environ.get("FORKED_FOR"), missing]), flush=True)
    signal.pause()


@contextmanager
def introduced(name: str, **environment: str) -> Iterator[ForkedProcess]:
    process = ForkedProcess(introduce, name, environment={**os.environ, **environment}, piped=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_each_is_a_process_of_its_own_with_all_imported_and_sigkill_ends_it_alone() -> None:
    with introduced("one", FORKED_FOR="me") as one, introduced("two") as two:
        assert json.loads(one.line()) == ["one", one.pid, "me", []]
        assert json.loads(two.line()) == ["two", two.pid, None, []]
        assert one.exit_code is None
        one.kill()
        assert one.wait() == -signal.SIGKILL
        assert not psutil.pid_exists(one.pid)
        assert two.exit_code is None


def test_what_they_are_forked_from_has_one_thread_and_no_connection() -> None:
    with introduced("one") as process:
        assert process.line()
        server = psutil.Process(process.pid).parent()
        assert server is not None
        assert server.num_threads() == 1
        assert server.net_connections("inet") == []
        assert server.pid != os.getpid()
