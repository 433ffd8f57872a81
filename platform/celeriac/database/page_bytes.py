"""How many rows of a page fit into an answer: rows may be long, so a page is bounded in bytes too. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: The default of the setting `max_page_bytes`.
PAGE_BYTES: Final = 8 * 1024**2


def fitting(sizes: Iterable[int | None], most_bytes: int) -> int:
    """Return how many of the first rows fit, by the sizes of their long columns; at least one, so that pages end."""
    number = total = 0
    for size in sizes:
        total += size or 0
        if number and total > most_bytes:
            break
        number += 1
    return number
