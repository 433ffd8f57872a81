"""The dashboard: how soon can it be used, what does it cost, and what does it load, with many tasks in the history?

The benchmark writes finished tasks of the last hour into a history, starts `celeriac up` on it and opens pages in
headless Chromium, each time in a new profile. A page is ready when what it is for is on it: the overview its chart,
the list its rows. Times count from the first byte of the page. They depend on what else the machine does; CPU times of
the browser's main thread and of the processes of `celeriac up` do not, or much less. Each opening is done twice, as the
browser's own instruments, which say what it cost, would slow down the one that is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
from figures import Figure, figure, table, write_json
from history_pages import APART_MS, database, fill
from machine import versions
from playwright.sync_api import Browser, CDPSession, Page, ViewportSize, sync_playwright

from celeriac.history.history import History

#: View → what is on it when it is ready.
VIEWS: Final = {"overview": ".chart svg rect", "tasks": ".list .row"}
#: The figures of an opening, with what they are called in the table.
FIGURES: Final = {
    "ready_ms": "ready (ms)",
    "script_ms": "scripts until ready (CPU ms)",
    "page_ms": "main thread until ready (CPU ms)",
    "api_ms": "API, for all it asked (CPU ms)",
    "kilobytes": "KB for the page",
    "all_kilobytes": "KB with all views",
    "requests": "requests",
    "nodes": "elements",
}
#: How long a page is watched after it is ready: then it has loaded the scripts of all other views (ms).
_QUIET_MS: Final = 4000
#: The size of the window.
VIEWPORT: Final[ViewportSize] = {"width": 1440, "height": 900}
#: Notes the time at which the page has what it is for. It runs before the page's own scripts.
_WATCH: Final = """(() => {
    const look = () => {
        if (document.querySelector(%s)) globalThis.readyAt ??= performance.now();
        else requestAnimationFrame(look);
    };
    look();
})()"""
#: The palette comes with the scripts of all other views.
_LOADED: Final = """() => {
    const loaded = performance.getEntriesByType("resource");
    const others = loaded.find((one) => one.name.endsWith("/palette.js"))?.startTime ?? Infinity;
    const page = performance.getEntriesByType("navigation")[0];
    const first = [page, ...loaded].filter((one) => one.startTime < others);
    return {
        ready: readyAt - page.responseStart,
        bytes: first.reduce((sum, one) => sum + one.transferSize, 0),
        nodes: document.querySelectorAll("*").length,
        answers: loaded
            .filter((one) => one.responseStart && one.name.includes("/api/v1/"))
            .map((one) => [new URL(one.name).pathname, one.responseStart - one.requestStart]),
    };
}"""


def time_view(browser: Browser, url: str, view: str, wanted: str) -> dict[str, Any]:
    """Open a view once, and do nothing else; returns when it was ready, and how long each answer took (ms)."""
    with browser.new_context(base_url=url, viewport=VIEWPORT) as context:
        page = context.new_page()
        loaded = _opened(page, view, wanted)
        return {"ready_ms": loaded["ready"], "answers": loaded["answers"]}


def open_view(browser: Browser, url: str, view: str, wanted: str, api: psutil.Process) -> dict[str, Any]:
    """Open a view once; returns what it cost, and what it asked for twice."""
    with browser.new_context(base_url=url, viewport=VIEWPORT) as context:
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        # CPU time of the main thread: its time on the clock depends on what else the machine does.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        wire: list[float] = []
        session.on("Network.loadingFinished", lambda event: wire.append(event["encodedDataLength"]))
        asked: Counter[str] = Counter()
        page.on("request", lambda request: asked.update([request.url]))
        before, metrics = _cpu_ms(api), {}
        loaded = _opened(page, view, wanted, on_ready=lambda: metrics.update(_metrics(session)))
        return {
            "script_ms": metrics["ScriptDuration"] * 1000,
            "page_ms": metrics["TaskDuration"] * 1000,
            "api_ms": _cpu_ms(api) - before,
            "kilobytes": loaded["bytes"] / 1024,
            "all_kilobytes": sum(wire) / 1024,
            "requests": asked.total(),
            "nodes": loaded["nodes"],
            "twice": sorted(urlsplit(address).path for address, number in asked.items() if number > 1),
        }


def _opened(page: Page, view: str, wanted: str, *, on_ready: Callable[[], object] = lambda: None) -> dict[str, Any]:
    page.add_init_script(_WATCH % json.dumps(wanted))
    page.goto(f"/dashboard#/{view}", wait_until="commit")
    page.locator(wanted).first.wait_for(state="attached")
    on_ready()
    page.wait_for_timeout(_QUIET_MS)
    loaded: dict[str, Any] = page.evaluate(_LOADED)
    return loaded


def _metrics(session: CDPSession) -> dict[str, float]:
    found = session.send("Performance.getMetrics")["metrics"]
    return {one["name"]: one["value"] for one in found}


def _cpu_ms(process: psutil.Process) -> float:
    times = process.cpu_times()
    return 1000 * float(times.user + times.system)


def measure(url: str, rounds: int, api: psutil.Process) -> dict[str, dict[str, Any]]:
    """Open each view once to warm the server up and then `rounds` times; returns the figures of each view."""
    path = next((program for name in ("chromium", "google-chrome") if (program := shutil.which(name))), None)
    found: dict[str, dict[str, Any]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for view, wanted in VIEWS.items():
            open_view(browser, url, view, wanted, api)
            each = [
                open_view(browser, url, view, wanted, api) | time_view(browser, url, view, wanted)
                for _ in range(rounds)
            ]
            answers: dict[str, list[float]] = {}
            for one in each:
                for address, took in one["answers"]:
                    answers.setdefault(address, []).append(took)
            found[view] = {name: figure(one[name] for one in each) for name in FIGURES}
            found[view]["twice"] = each[-1]["twice"]
            found[view]["answers"] = {address: median(times) for address, times in answers.items()}
        browser.close()
    return found


async def write_history(url: str, tasks: int) -> None:
    """Write finished tasks, the last of them just now."""
    async with History(url) as history:
        await fill(history, tasks, int(time.time() * 1000) - tasks * APART_MS)
        async with history.engine.connect() as connection:
            # A database in use has statistics.
            await connection.exec_driver_sql("ANALYZE")
            await connection.commit()


def of_database(url: str, tasks: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Fill a database, start the platform on it, and measure."""
    asyncio.run(write_history(url, tasks))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        ports = ("--port", "0", "--grpc-port", "0", "--data-dir", str(data))
        up = subprocess.Popen(
            [sys.executable, "-m", "celeriac", "up", *ports],
            env={**os.environ, "DATABASE_URL": url},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            run = _ready(up, data)
            return measure(str(run["http"]), rounds, psutil.Process(run["pids"]["api"]))
        finally:
            up.terminate()
            up.communicate()


def _ready(up: subprocess.Popen[str], data: Path) -> dict[str, Any]:
    """Read what `celeriac up` says until it says that it is ready; returns its run file."""
    assert up.stdout is not None
    said = []
    for line in up.stdout:
        said.append(line)
        if "is ready." in line:
            run: dict[str, Any] = json.loads((data / "run.json").read_text())
            return run
    raise SystemExit("".join(["celeriac up did not start:\n", *said]))


def report(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a table, and the slowest answers."""
    rows = [(text, *(_text(found[view][name]) for view in VIEWS)) for name, text in FIGURES.items()]
    rows.append(("asked twice", *(", ".join(found[view]["twice"]) or "-" for view in VIEWS)))
    lines = [table(("", *VIEWS), rows), ""]
    for view in VIEWS:
        slow: Sequence[tuple[str, float]] = sorted(found[view]["answers"].items(), key=lambda one: -one[1])[:5]
        lines.append(f"{view}: " + ", ".join(f"{address} {took:.0f} ms" for address, took in slow))
    return "\n".join(lines)


def _text(value: Figure) -> str:
    return value.text()


def main() -> None:
    """Measure each database, and print a table of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks in the history (100,000)")
    parser.add_argument("--rounds", type=int, default=9, help="openings of each page (9)")
    parser.add_argument("--postgresql", default="", metavar="URL", help="a server that lets us make databases")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    chosen = parser.parse_args()
    document: dict[str, Any] = {"tasks": chosen.tasks, "versions": versions("celeriac", "uvicorn", "sqlalchemy")}
    for kind in ("sqlite", *(["postgresql"] if chosen.postgresql else [])):
        with database(kind, chosen.postgresql) as url:
            found = of_database(url, chosen.tasks, chosen.rounds)
        print(f"\n{kind}, {chosen.tasks:,} finished tasks\n\n{report(found)}", flush=True)
        document[kind] = {
            view: {name: one.as_json() if isinstance(one, Figure) else one for name, one in figures.items()}
            for view, figures in found.items()
        }
    if chosen.json:
        write_json(chosen.json, "dashboard", document)


if __name__ == "__main__":
    main()
