"""What a remote worker says on its terminal or in its notebook."""

from __future__ import annotations

import logging
import sys
from typing import Final

from celeriac.standard_streams import shows_colours
from celeriac.terminal.task_lines import TaskLines

#: Where the worker says that it is connected, disconnected and what it tries next.
log = logging.getLogger("celeriac.remote_worker")

#: Most lines about ended tasks per second.
_MOST: Final = 200


def be_heard() -> None:
    """Have what the worker says written to standard error, unless the program has set up logging."""
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def own_lines(*, quiet: bool) -> TaskLines:
    """Return lines on standard error, one for each task that ends; none if the worker is to be `quiet`."""
    return TaskLines(_write, most=0 if quiet else _MOST, as_json=False, colours=shows_colours(sys.stderr))


def _write(line: str) -> None:
    try:
        # A notebook replaces the stream.
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return
