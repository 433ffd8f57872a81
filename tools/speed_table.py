"""Write the table of speed in both READMEs from `bench/figures.json`; `--check` fails if one is stale.

The table stands between two markers. Each row compares Celeriac with the best peer that was measured in the same run.
A row whose figures are missing is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from celeriac import json_text

ROOT: Final = Path(__file__).parents[1]
FIGURES: Final = ROOT / "bench" / "figures.json"
#: The pages with the table, and the place of their language in the texts below.
PAGES: Final = {ROOT / "README.md": 0, ROOT / "README.zh-CN.md": 1}
BEGIN: Final = "<!-- speed: written by tools/speed_table.py from bench/figures.json -->"
END: Final = "<!-- end of speed -->"

#: A text in English and in Chinese.
Text = tuple[str, str]
#: Names of what was measured, and their figures.
Values = dict[str, float]

_HEAD: Final[tuple[Text, ...]] = (
    ("work", "工作"),
    ("Celeriac", "Celeriac"),
    ("the best peer", "最好的同类"),
    ("Celeriac / best", "Celeriac / 最好的同类"),
    ("other peers / Celeriac", "其他同类 / Celeriac"),
)
#: The peers as people call them; the keys are the names in the benchmarks.
_NAMES: Final[dict[str, Text]] = {
    "(a) FastAPI, one script call": ("FastAPI with one script call", "只做一次脚本调用的 FastAPI"),
    "(b) FastAPI, delay() in a thread": ("FastAPI with `delay()`", "调用 `delay()` 的 FastAPI"),
    "(b) FastAPI, delay() on the loop": ("FastAPI with `delay()`", "调用 `delay()` 的 FastAPI"),
    "(c) Flower, async-apply": ("Flower", "Flower"),
    "(d) Node's http, add": ("BullMQ behind Node's http", "Node http 后面的 BullMQ"),
    "(d) Node's http, addBulk": ("BullMQ's `addBulk` behind Node's http", "Node http 后面的 BullMQ `addBulk`"),
    "bare WebSocket hop": ("a bare hop in memory", "内存中的裸转发"),
    "Celery, threads, no events": ("Celery (threads)", "Celery（线程）"),
    "Celery, prefork, no events": ("Celery (prefork)", "Celery（prefork）"),
    "Celery, threads, events": ("Celery (threads, events)", "Celery（线程，事件）"),
    "Celery, prefork, events": ("Celery (prefork, events)", "Celery（prefork，事件）"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is measured, in which unit, our figure and those of the peers. Less is better."""

    work: Text
    unit: str
    ours: float
    peers: Values


def rows(document: dict[str, Any]) -> Iterator[Row]:
    """Yield the rows whose figures are in the document."""
    for make in _ROWS:
        try:
            row = make(document)
        except KeyError:
            continue
        if row.peers:
            yield row


def _medians(targets: dict[str, Any], part: str) -> Values:
    return {name: figures[part]["median"] for name, figures in targets.items() if part in figures}


def _peers(values: Values) -> Values:
    return {name: value for name, value in values.items() if not name.startswith("celeriac")}


def _worker(kind: str, work: Text) -> Callable[[dict[str, Any]], Row]:
    def make(document: dict[str, Any]) -> Row:
        values = _medians(document["throughput"]["workers"], "worker_us")
        return Row(work, "µs", values[f"celeriac, {kind}"], _peers(values))

    return make


def _submissions(document: dict[str, Any], part: str) -> Values:
    return _medians(document["submit"]["sizes"]["64"]["targets"], part)


def _submission(document: dict[str, Any]) -> Row:
    values = _submissions(document, "server_us")
    peers = {name: value for name, value in _peers(values).items() if "addBulk" not in name}
    return Row(
        ("submit a task over HTTP, CPU of the server", "通过 HTTP 提交一个任务，服务器的 CPU"),
        "µs",
        values["celeriac"],
        peers,
    )


def _batch(document: dict[str, Any]) -> Row:
    values = _submissions(document, "server_us")
    peers = {name: value for name, value in _peers(values).items() if "addBulk" in name}
    work = ("submit a batch of 100 over HTTP, CPU per task", "通过 HTTP 批量提交 100 个任务，每个任务的 CPU")
    return Row(work, "µs", values["celeriac, batch"], peers)


def _store(document: dict[str, Any]) -> Row:
    submitted, run = _submissions(document, "store_us"), _medians(document["throughput"]["workers"], "store_us")
    ours = submitted["celeriac"] + run["celeriac, async"]
    peers = {}
    for name, submitting, running in (
        ("BullMQ", "(d) Node's http, add", "BullMQ"),
        ("Celery", "(b) FastAPI, delay() in a thread", "Celery, threads, no events"),
        ("Celery", "(b) FastAPI, delay() on the loop", "Celery, threads, no events"),
    ):
        if submitting in submitted and running in run:
            peers[name] = submitted[submitting] + run[running]
    return Row(("submit and run a task, CPU of the store", "提交并运行一个任务，存储的 CPU"), "µs", ours, peers)


def _latency(ours: str, work: Text) -> Callable[[dict[str, Any]], Row]:
    def make(document: dict[str, Any]) -> Row:
        values = _medians(document["latency"]["targets"], "p50_ms")
        return Row(work, "ms", values[ours], _peers(values))

    return make


def _memory(part: str, work: Text) -> Callable[[dict[str, Any]], Row]:
    def make(document: dict[str, Any]) -> Row:
        values = _medians(document["memory"]["targets"], part)
        return Row(work, "B", values["celeriac"], _peers(values))

    return make


def _dispatch(document: dict[str, Any]) -> Row:
    values = _medians(document["dispatch"]["sizes"]["64x64"], "server_us")
    work = ("call a WebSocket worker and wait, CPU of the server", "调用 WebSocket worker 并等待结果，服务器的 CPU")
    return Row(work, "µs", values["celeriac"], _peers(values))


_ROWS: Final[tuple[Callable[[dict[str, Any]], Row], ...]] = (
    _worker("async", ("run a no-op task, CPU of the worker (async)", "运行一个空任务，worker 的 CPU（async）")),
    _worker(
        "sync", ("run a no-op task, CPU of the worker (plain function)", "运行一个空任务，worker 的 CPU（普通函数）")
    ),
    _submission,
    _batch,
    _latency(
        "celeriac, delay().get()",
        ("from `delay()` to `get()` on an idle system, p50", "空闲系统上从 `delay()` 到 `get()`，p50"),
    ),
    _latency(
        "celeriac, HTTP",
        ("from request to result over HTTP on an idle system, p50", "空闲系统上通过 HTTP 从提交到结果，p50"),
    ),
    _store,
    _memory("waiting_bytes", ("memory of a waiting task", "一个等待中的任务占用的内存")),
    _memory("finished_bytes", ("memory of a finished task", "一个已结束的任务占用的内存")),
    _dispatch,
)


def table(document: dict[str, Any], language: int) -> str:
    """Return the table in a language; empty if there are no figures."""
    lines = [written(row, language) for row in rows(document)]
    if not lines:
        return ""
    head = [text[language] for text in _HEAD]
    rule = ["---", "---:", "---", "---:", "---"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def written(row: Row, language: int) -> list[str]:
    """Return the cells of a row."""
    best, *others = sorted(row.peers, key=row.peers.__getitem__)
    return [
        row.work[language],
        _figure(row.ours, row.unit),
        f"{_name(best, language)}: {_figure(row.peers[best], row.unit)}",
        f"{row.ours / row.peers[best]:.2f}",
        ", ".join(f"{_name(name, language)} {_ratio(row.peers[name] / row.ours)}" for name in others),
    ]


def _figure(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}" if unit == "ms" else f"{value:,.0f} {unit}"


def _ratio(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _name(name: str, language: int) -> str:
    return _NAMES.get(name, (name, name))[language]


def caption(document: dict[str, Any], language: int) -> str:
    """Return a line that says where the figures come from."""
    run, found = document["run"], document["throughput"]["versions"] | document.get("submit", {}).get("versions", {})
    names = {
        "python": "Python",
        "store": "",
        "bullmq": "BullMQ",
        "node": "Node",
        "celery": "Celery",
        "dramatiq": "dramatiq",
    }
    names |= {"huey": "huey", "taskiq": "taskiq", "fastapi": "FastAPI", "flower": "Flower"}
    versions = ", ".join(f"{name} {found[key]}".strip() for key, name in names.items() if key in found)
    text = (
        f"Measured on {run['day']} with {run['processors']} processors; less is better. {versions}.",
        f"测量于 {run['day']}，{run['processors']} 个处理器；数值越小越好。{versions}。",
    )
    return text[language]


def page(text: str, document: dict[str, Any], language: int) -> str:
    """Return the text of a page with the table of these figures between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    made = table(document, language)
    body = f"\n{made}\n\n{caption(document, language)}\n" if made else ""
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


def stale() -> Iterator[tuple[Path, str]]:
    """Yield the pages that are not what the committed figures make of them, with the text that they should have."""
    document = json_text.read(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    for path, language in PAGES.items():
        text = path.read_text("utf-8")
        if (wanted := page(text, document, language)) != text:
            yield path, wanted


def main() -> int:
    """Write or check the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a page is stale")
    arguments = parser.parse_args()
    found = list(stale())
    for path, wanted in found:
        if arguments.check:
            print(f"{path} is stale: run python tools/speed_table.py", file=sys.stderr)
        else:
            path.write_text(wanted, encoding="utf-8")
    return 1 if found and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
