"""Run the benchmarks one after another, and write what they measure to one JSON file.

`tools/speed_table.py` makes the table of the README from that file. A benchmark that fails is named at the end; its
figures are missing then, and so is its row of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from machine import BENCH

#: The file that the table of the README is made from.
FIGURES: Final = BENCH / "figures.json"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A file of this folder, and its arguments in a full and in a quick run; None leaves it out of a quick run."""

    name: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None


#: Those that the table needs come first.
BENCHMARKS: Final = (
    Benchmark("throughput", quick=("--rounds", "2", "--only", "celeriac|BullMQ|no events|dramatiq|huey|taskiq")),
    Benchmark("submit", quick=("--rounds", "2", "--seconds", "2.5", "--sweep", "")),
    Benchmark("latency", quick=("--rounds", "2", "--calls", "300")),
    Benchmark("memory", quick=("--rounds", "1")),
    Benchmark("dispatch", quick=("--rounds", "2", "--seconds", "2.5", "--sizes", "64x64")),
    Benchmark("chain"),
    Benchmark("workflows"),
    Benchmark("durable"),
    Benchmark("notify"),
    Benchmark("recorder"),
    Benchmark("history_pages"),
    Benchmark("scheduler"),
    Benchmark("limits"),
)


def main() -> int:
    """Run them; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only what the table needs, in about five minutes")
    parser.add_argument("--only", default="", help="names of benchmarks, with commas; other figures in the file stay")
    parser.add_argument("--json", type=Path, default=FIGURES, metavar="FILE", help="the file (bench/figures.json)")
    options, further = parser.parse_known_args()
    names = {name for name in options.only.split(",") if name}
    unknown = names - {benchmark.name for benchmark in BENCHMARKS}
    if unknown:
        parser.error(f"there is no benchmark named {', '.join(sorted(unknown))}")
    chosen = [
        benchmark
        for benchmark in BENCHMARKS
        if (benchmark.name in names if names else not options.quick or benchmark.quick is not None)
    ]
    # The file is replaced at the end, so that a run that is stopped half way leaves the old one.
    written = options.json.with_suffix(".part")
    write(written, read(options.json) if names else {})
    failed = [benchmark.name for benchmark in chosen if not run(benchmark, written, further, quick=options.quick)]
    document = read(written)
    document["run"] = about(quick=options.quick)
    write(written, document)
    written.replace(options.json)
    print(f"\nThe figures are in {options.json}. For the table of the README: python tools/speed_table.py")
    if failed:
        print(f"Failed, and missing there: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(benchmark: Benchmark, file: Path, further: list[str], *, quick: bool) -> bool:
    """Run one benchmark, which adds its figures to the file; returns whether it succeeded."""
    arguments = benchmark.quick if quick and benchmark.quick is not None else benchmark.full
    began = time.monotonic()
    print(f"\n# {benchmark.name}\n", flush=True)
    argv = [sys.executable, str(BENCH / f"{benchmark.name}.py"), *arguments, *further, "--json", str(file.resolve())]
    done = subprocess.run(argv, check=False)
    print(f"({benchmark.name}: {time.monotonic() - began:.0f} s)", flush=True)
    return done.returncode == 0


def about(*, quick: bool) -> dict[str, Any]:
    """Return what is known about the run: the day, the number of processors and whether it was a quick one."""
    return {"day": time.strftime("%Y-%m-%d"), "processors": len(os.sched_getaffinity(0)), "quick": quick}


def read(file: Path) -> dict[str, Any]:
    """Return the figures of earlier runs."""
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def write(file: Path, document: dict[str, Any]) -> None:
    """Write the file."""
    file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
