"""Show rows to people: as a table on a terminal, as plain columns of full width in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from celeriac.cli.output import print_line, printable
from celeriac.model import Status

_COLOURS: Final = {
    Status.COMPLETED.wire: "green",
    Status.FAILED.wire: "red",
    Status.CANCELLED.wire: "yellow",
    Status.PROCESSING.wire: "cyan",
    Status.RETRYING.wire: "magenta",
    Status.WAITING.wire: "blue",
}
#: Columns of free text. Only these are shortened to fit, to this many characters at the least.
_FREE: Final = frozenset({"TITLE", "ERROR", "DESCRIPTION", "WHAT"})
_FREE_WIDTH: Final = 12
#: Spaces between columns.
_GAP: Final = 2
_BARS: Final = "▁▂▃▄▅▆▇█"


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Print rows of values, None as an empty cell; without rows, print the line `empty`."""
    if not rows:
        print_line(empty)
        return
    cells = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(header, cells)
        return
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    for line in [list(header), *cells]:
        print_line("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def spark(values: Sequence[float]) -> str:
    """Return one bar for each value, in proportion to the highest; zero is a dot."""
    highest = max(values, default=0)
    return "".join("·" if value <= 0 else _BARS[min(int(value / highest * 8), 7)] for value in values)


def _print_rich(header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    screen = Console().width
    widths = [max(cell_len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    free = [i for i, name in enumerate(header) if name in _FREE]
    taken = sum(widths) + _GAP * len(widths) - sum(widths[i] for i in free)
    for i in free:
        widths[i] = min(widths[i], max((screen - taken) // len(free), _FREE_WIDTH))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for name, width in zip(header, widths, strict=True):
        table.add_column(name, no_wrap=True, width=width)
    for row in cells:
        table.add_row(*(Text(text, style=_COLOURS.get(text, "")) for text in row))
    # A terminal that is too narrow wraps the lines; nothing is left out.
    Console(highlight=False, width=max(screen, sum(widths) + _GAP * len(widths))).print(table)
