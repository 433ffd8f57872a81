"""BullMQ on Node, a peer that is not written in Python: installed by npm into a cache folder of the user.

The programs of `peers/bullmq` get the store's URL as BENCH_URL. Those that measure something print one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from machine import BENCH, child_environment

_PROGRAMS: Final = BENCH / "peers" / "bullmq"
#: Redis keys of the queue that all programs use: what waits (a list) and what has ended (a sorted set).
WAITING: Final = "bull:bench:wait"
COMPLETED: Final = "bull:bench:completed"
#: How many jobs a worker runs at once: as many as `celeriac worker` does by default.
AT_ONCE: Final = 1000


@cache
def installed() -> Path | None:
    """Return the folder with the programs of `peers/bullmq` and what they need.

    None if Node or npm is not there, or if npm cannot install BullMQ; this is printed once.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        print("BullMQ is left out: install Node and npm to measure it")
        return None
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "celeriac-bench" / "bullmq"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (_PROGRAMS / "package.json").read_text("utf-8")
    manifest, modules = folder / "package.json", folder / "node_modules" / "bullmq"
    if not manifest.exists() or manifest.read_text("utf-8") != wanted or not modules.exists():
        manifest.write_text(wanted, "utf-8")
        done = subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit"], cwd=folder, check=False)
        if done.returncode:
            print(f"BullMQ is left out: `npm install` in {folder} ended with {done.returncode}")
            return None
    for program in _PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


def command(program: str, *arguments: str) -> list[str]:
    """Return the command line of a program of `peers/bullmq`; only if `installed()` is not None."""
    folder = installed()
    if folder is None:
        raise RuntimeError("BullMQ is not installed")
    return ["node", str(folder / program), *arguments]


def worker(at_once: int = AT_ONCE) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a worker that does nothing, and what its environment needs beside BENCH_URL."""
    return command("worker.mjs"), {"BENCH_CONCURRENCY": str(at_once)}


def publish(url: str, count: int, payload: object, *, bulk: bool = True, width: int = 64) -> dict[str, Any]:
    """Add `count` jobs; return the program's `{count, seconds, cpu_s}`.

    `width` is the number of jobs in one `addBulk`, or of callers that add jobs at the same time.
    """
    how = "bulk" if bulk else "add"
    return run(command("publish.mjs", how, str(count), json.dumps(payload), str(width)), {"BENCH_URL": url})


def latencies_ms(url: str, count: int, payload: object, *, warm_up: int = 100) -> list[float]:
    """Add jobs one after another, wait for each result, and return the time that each took (milliseconds)."""
    argv = command("latency.mjs", str(count), json.dumps(payload), str(warm_up))
    return [float(ms) for ms in run(argv, {"BENCH_URL": url})["latencies_ms"]]


def run(argv: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a client to its end; return the object in the last line that it printed."""
    done = subprocess.run(argv, env=child_environment(**environment), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def version() -> str:
    """Return the version that is installed, as `peers/bullmq/package.json` has it."""
    manifest = json.loads((_PROGRAMS / "package.json").read_text("utf-8"))
    return str(manifest["dependencies"]["bullmq"])


def versions() -> dict[str, str]:
    """Return the versions of BullMQ and Node; empty if they are not there."""
    if installed() is None:
        return {}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"bullmq": version(), "node": node.removeprefix("v")}
