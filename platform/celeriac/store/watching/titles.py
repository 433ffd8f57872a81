"""The titles of tasks, as far as readers of the store need them: another room makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class TaskTitles(Protocol):
    """Makes titles (`tasks/titles.py`)."""

    async def ready(self) -> None:
        """Read again what titles are made by, if it may have changed; raises nothing while the store is away."""

    def of_record(self, record: Mapping[str, str], /) -> str | None:
        """Return the title of a task by its record in the store, None if it has none."""
