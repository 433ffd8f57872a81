"""The sides: for each one a store, a worker, a beat and the processes that run the probes."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from tests.kit.command_line import REPOSITORY
from tests.kit.servers import ValkeyServer
from tests.kit.workers.celery_operators import wait_for_answers

PROJECT = "tests.kit.conformance.project"
QUEUES = ("routed", "side", "media")
#: Probes that run at the same time; they wait for most of their time.
AT_ONCE = 20
#: How long a process of probes may take (seconds).
PATIENCE_S = 300
_FOLDER = Path(__file__).parent / "probes"


@dataclass(frozen=True)
class Side:
    """What the project runs on."""

    name: str
    #: As docs/celery.md names it.
    title: str
    default_queue: str = "celery"
    worker: tuple[str, ...] = ("-P", "prefork")
    #: Nobody listens to each task that begins or succeeds, and no line says it: plain tasks take the direct path.
    quiet: bool = False


STOCK = Side("stock", "stock Celery")
SIDES = (
    Side("adopted", "an adopted app"),
    Side("own", "`celeriac_tasks.celery.app`", default_queue="default", worker=()),
    Side("direct", "the same on the direct path", default_queue="default", worker=(), quiet=True),
)


@cache
def topics() -> dict[str, list[str]]:
    """Return the names of all probes by their module, without importing one: a project's app is made by importing.

    Called before threads are started: Python 3.11 cannot parse in several at once.
    """
    found = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        decorated = [node for node in functions if any(ast.unparse(one) == "probe" for one in node.decorator_list)]
        found[path.stem] = [node.name for node in decorated]
    return found


def outcomes_of(side: Side, folder: Path) -> dict[str, Any]:
    """Run all probes on a side; return the outcome of each one by its name."""
    folder.mkdir(parents=True)
    modules = list(topics())
    apart = [module for module in modules if module.startswith(("apart_", "beside_"))]
    together = [module for module in modules if module not in apart]
    with ExitStack() as stack:
        server = ValkeyServer(folder / "valkey")
        server.start()
        stack.callback(server.kill)
        environment = _environment(side, server, database=0)
        celery = [sys.executable, "-m", "celery", "-A", PROJECT]
        queues = ",".join((side.default_queue, *QUEUES))
        worker = [
            *celery,
            "worker",
            *side.worker,
            "-c",
            "10",
            "-Q",
            queues,
            "-l",
            "WARNING" if side.quiet else "INFO",
            "--colour",
            "green",
            "-n",
            f"{_environment_name(side)}@%h",
        ]
        beat = [
            *celery,
            "beat",
            "-S",
            "celery.beat:PersistentScheduler",
            "-s",
            str(folder / "schedule"),
            "--pidfile",
            str(folder / "beat.pid"),
        ]
        running = stack.enter_context(_running(worker, environment, folder / "worker.log"))
        stack.enter_context(_running(beat, environment, folder / "beat.log"))
        _wait_until_ready(server, running, folder / "worker.log")
        batches = [("together", together, AT_ONCE, 0)]
        batches += [(one, [one], 1, 0 if one.startswith("beside_") else number) for number, one in enumerate(apart, 3)]

        def run(batch: tuple[str, list[str], int, int]) -> dict[str, Any]:
            name, chosen, threads, database = batch
            out = folder / f"{name}.json"
            command = [sys.executable, "-m", "tests.kit.conformance.prober", str(out), str(threads), *chosen]
            with (folder / f"{name}.log").open("wb") as log:
                subprocess.run(
                    command, env=_environment(side, server, database=database), cwd=REPOSITORY, timeout=PATIENCE_S,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                )  # fmt: skip
            if not out.exists():
                raise RuntimeError(f"{side.name}, {name}: " + (folder / f"{name}.log").read_text()[-5000:])
            return dict(json.loads(out.read_text()))

        with ThreadPoolExecutor(len(batches)) as pool:
            found = list(pool.map(run, batches))
    if side is STOCK:
        # Celery's command line asks all packages for commands; nothing else of ours may be there.
        engine = [name for one in found for name in one["ours"] if name.startswith("celeriac_tasks.engine")]
        assert not engine, f"stock Celery runs with {engine}"
    return {name: outcome for one in found for name, outcome in one["outcomes"].items()}


def _environment_name(side: Side) -> str:
    """Return the side that a project is told, by which its worker is called too."""
    return "own" if side.quiet else side.name


def _environment(side: Side, server: ValkeyServer, *, database: int) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("CELERIAC_", "CELERY_", "PYTEST_"))
    }
    return {
        **clean,
        # A warm interpreter has imported our packages, and stock Celery has to run without a module of ours.
        **({"FRESH_PYTHON": "1"} if side is STOCK else {}),
        "CONFORMANCE_SIDE": _environment_name(side),
        **({"CONFORMANCE_QUIET": "1"} if side.quiet else {}),
        "CONFORMANCE_URL": server.url(database),
        "CONFORMANCE_NOTES": server.url(1),
        # Celery asks for it where root accepts pickled messages.
        "C_FORCE_ROOT": "1",
        "REDIS_URL": server.url(database),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program meanwhile, with all that it starts."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(server: ValkeyServer, worker: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the project's receiver of `worker_ready` has noted it."""
    deadline = time.monotonic() + 120
    with redis.Redis.from_url(server.url(1), decode_responses=True) as client:
        while '"ready"' not in client.lrange("note:worker", 0, -1):
            if worker.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the worker is not ready: " + log.read_text()[-5000:])
            time.sleep(0.05)
    wait_for_answers(Celery("waiting", broker=server.url(0), set_as_current=False))
