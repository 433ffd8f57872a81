"""Formats figures for people and programs: median, spread, tables, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """The values of one quantity over several rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Half of the difference between the highest and the lowest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.median if self.median else 0.0

    def text(self, digits: int = 0) -> str:
        """Return median and spread as text."""
        return f"{self.median:,.{digits}f} ±{self.spread:.0%}"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for `--json`."""
        return {"median": self.median, "spread": self.spread, "rounds": list(self.rounds)}


def figure(rounds: Iterable[float]) -> Figure:
    """Return the figure of these rounds."""
    return Figure(tuple(rounds))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie; 0 if there are no values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others are right-aligned."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def written(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [("-" * w) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([written(lines[0]), f"| {' | '.join(rule)} |", *map(written, lines[1:])])


def write_json(path: str, benchmark: str, document: Any) -> None:
    """Write the results of a benchmark to a file, under its name and beside other results; `-` is standard output."""
    if path == "-":
        print(json.dumps({benchmark: document}, indent=2))
        return
    file = Path(path)
    held = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**held, benchmark: document}, indent=2) + "\n", "utf-8")
