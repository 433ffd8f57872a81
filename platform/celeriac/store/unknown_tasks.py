"""Tasks that came to workers that do not know them: their messages are sent again, and people hear of it."""

from __future__ import annotations

from typing import Final

from celeriac.store import keys
from celeriac.store.reading import StoreReader

#: At most this many pairs of a type and its group are noted, each for this long after the last message (seconds).
MOST_UNKNOWN: Final = 100
UNKNOWN_NOTED_S: Final = 900.0

_SEPARATOR: Final = "\x1f"


def unknown_note(task_type: str, group: str) -> str:
    """Return the text to note for a task of this type in this group."""
    return f"{task_type[:200]}{_SEPARATOR}{group[:200]}"


async def unknown_tasks(store: StoreReader) -> list[tuple[str, str]]:
    """Return the types and groups that were noted lately, sorted."""
    (seconds, _), notes = await store.read(("TIME",), ("ZRANGE", keys.UNKNOWN, 0, -1, "WITHSCORES"))
    found = [str(note).partition(_SEPARATOR) for note, until_ms in notes if float(until_ms) > int(seconds) * 1000]
    return sorted((task_type, group) for task_type, _, group in found)
