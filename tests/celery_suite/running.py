"""Runs files of Celery's tests in processes of their own, each on a server of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.celery_suite import apps
from tests.kit.command_line import REPOSITORY
from tests.kit.servers import ValkeyServer

#: How long one process may take (seconds): the longest file has 240 tests.
_PROCESS_S = 3600


@dataclass(frozen=True, slots=True)
class Ended:
    """How one test ended; `tries` is 2 if it failed among the others and ran again without them."""

    outcome: str
    why: str = ""
    seconds: float = 0.0
    tries: int = 1


@dataclass(slots=True)
class Run:
    """The tests of a process, and the ends of those that ended; `begun` is the last one that began."""

    collected: list[str] = field(default_factory=list)
    ended: dict[str, Ended] = field(default_factory=dict)
    begun: str | None = None


class Suite:
    """Celery's tests in a folder, for one kind of app."""

    def __init__(self, folder: Path, app: str, *, limit_s: float = 200, wait_s: float = 20, chosen: str = "") -> None:
        self.folder = folder
        self.app = app
        self.chosen = ["-k", chosen] if chosen else []
        self.limits = {apps.LIMIT: str(limit_s), apps.WAIT: str(wait_s)}

    def run(self, *tests: str, log: Path) -> dict[str, Ended]:
        """Run files or tests, and those that failed once more in a new process: a neighbour may have disturbed them."""
        first = self._run_to_the_end(tests, log)
        failed = [test for test, end in first.items() if end.outcome == "failed"]
        if not failed:
            return first
        second = self._run_to_the_end(failed, log)
        again = {test: Ended(end.outcome, end.why, end.seconds, tries=2) for test, end in second.items()}
        return first | again

    def _run_to_the_end(self, tests: Sequence[str], log: Path) -> dict[str, Ended]:
        """Run tests; if their process dies, the test that ran then has failed, and the others run in a new one."""
        run = self._run_once(tests, log)
        if not run.collected:
            raise RuntimeError(f"no test of {', '.join(tests):.200} could be collected: see {log}")
        ended = dict(run.ended)
        while left := [test for test in run.collected if test not in ended]:
            guilty = run.begun if run.begun in left else left[0]
            ended[guilty] = Ended("failed", "the test process ended or was stuck")
            left.remove(guilty)
            if not left:
                break
            run = self._run_once(left, log)
            ended |= run.ended
        return ended

    def _run_once(self, tests: Sequence[str], log: Path) -> Run:
        with tempfile.TemporaryDirectory(prefix="celery-suite-") as scratch:
            server = ValkeyServer(Path(scratch) / "valkey")
            server.start()
            outcomes = Path(scratch) / "outcomes"
            outcomes.touch()
            command = [
                sys.executable, "-m", "pytest", "-p", "celery.contrib.pytest", "-p", apps.__name__,
                "-p", "no:cacheprovider", "-p", "no:valkey", "--durations=5", "--tb=native", "-v", *self.chosen, *tests,
            ]  # fmt: skip
            try:
                with log.open("ab") as out:
                    process = subprocess.Popen(
                        command, cwd=self.folder, env=self._environment(server, outcomes), stdin=subprocess.DEVNULL,
                        stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                    )  # fmt: skip
                    try:
                        process.wait(_PROCESS_S)
                    except subprocess.TimeoutExpired:
                        log.open("a").write(f"ended after {_PROCESS_S} s\n")
                    finally:
                        # With it, what its tests left running.
                        with suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
            finally:
                server.kill()
            return _read(outcomes)

    def _environment(self, server: ValkeyServer, outcomes: Path) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CELERIAC_", "CELERY_"))}
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **clean, **self.limits, apps.APP: self.app, apps.OUTCOMES: str(outcomes), "PATH": programs,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(self.folder)]), "PYTHONDONTWRITEBYTECODE": "1",
            "TEST_BROKER": server.url(), "TEST_BACKEND": server.url(),
            "REDIS_HOST": server.host, "REDIS_PORT": str(server.port),
            # As in Celery's own CI: some tests read the worker's log.
            "WORKER_LOGLEVEL": "INFO",
        }  # fmt: skip


def _read(outcomes: Path) -> Run:
    run = Run()
    for text in outcomes.read_text().splitlines():
        line = json.loads(text)
        if "collected" in line:
            run.collected = line["collected"]
        elif "begun" in line:
            run.begun = line["begun"]
        else:
            run.ended[line["test"]] = Ended(line["outcome"], line["why"], line["seconds"])
    return run
