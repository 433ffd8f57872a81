"""What history says at the end, read with plain SQL, and what the marks of the handlers say."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

FINAL = ("COMPLETED", "FAILED", "CANCELLED")


@dataclass
class Timeline:
    """The status events of a task, in order: (status, attempt, code)."""

    statuses: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def ends(self) -> int:
        """How often it ended."""
        return sum(status in FINAL for status, _, _ in self.statuses)

    @property
    def starts(self) -> Counter[int]:
        """How often each attempt was claimed."""
        return Counter(attempt for status, attempt, _ in self.statuses if status == "PROCESSING")

    @property
    def moved_after_an_end(self) -> bool:
        """Whether something other than a retry by hand followed an end."""
        pairs = zip(self.statuses, self.statuses[1:], strict=False)
        return any(a[0] in FINAL and b[0] not in ("PENDING", "SCHEDULED") for a, b in pairs)


@dataclass
class Records:
    """Everything that history has."""

    tasks: dict[str, Mapping[str, Any]]
    timelines: dict[str, Timeline]
    definitions: list[Mapping[str, Any]]
    unsettled_firings: int


def read_records(database_url: str) -> Records:
    """Read everything; the soak is bounded, and so is this."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:

        def rows(statement: str) -> list[Mapping[str, Any]]:
            return [dict(row) for row in connection.execute(text(statement)).mappings()]

        tasks = {row["task_id"]: row for row in rows("SELECT * FROM celeriac_tasks")}
        timelines: dict[str, Timeline] = defaultdict(Timeline)
        query = "SELECT task_id, fields FROM celeriac_events WHERE kind = 'status' ORDER BY at_ms, seq"
        for row in rows(query):
            fields = json.loads(row["fields"])
            attempt = int(fields.get("attempt") or 0)
            timelines[row["task_id"]].statuses.append((fields["status"], attempt, fields.get("code", "")))
        definitions = rows("SELECT * FROM celeriac_definitions")
        left = rows("SELECT count(*) AS n FROM celeriac_firings WHERE state <> 'ended'")[0]["n"]
    engine.dispose()
    return Records(tasks, timelines, definitions, left)


@dataclass
class Marks:
    """How often each run began and ended, by the handlers themselves: (task, attempt)."""

    begun: Counter[tuple[str, int]]
    ended: Counter[tuple[str, int]]


def read_marks(path: Path) -> Marks:
    """Read the file of marks."""
    marks = Marks(Counter(), Counter())
    if path.exists():
        for line in path.read_text().splitlines():
            what, task_id, attempt, *_ = line.split()
            (marks.begun if what == "begin" else marks.ended)[task_id, int(attempt)] += 1
    return marks
