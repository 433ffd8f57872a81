"""What the doors accepted, and what was seen of it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Accepted:
    """A task that was answered with its id."""

    task_id: str
    door: str
    kind: str
    at: float = field(default_factory=time.time)
    user_id: str | None = None
    #: Whether somebody asked for its cancellation, and how often it was retried by hand.
    cancelled: bool = False
    retried: int = 0


@dataclass
class Slots:
    """A definition whose every slot must run once."""

    definition_id: str
    first_ms: int
    step_ms: int
    count: int


class Ledger:
    """Grows with the soak; nothing is forgotten."""

    def __init__(self) -> None:
        self.accepted: dict[str, Accepted] = {}
        #: By door and answer, for example ("batch", "503").
        self.refused: Counter[tuple[str, str]] = Counter()
        #: By door: requests whose answer did not arrive.
        self.unanswered: Counter[str] = Counter()
        #: What must not happen, by kind, with an example each.
        self.faults: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.definitions: list[Slots] = []
        self.loose_definitions: list[str] = []
        #: Files that were handed over: their sha-256 and the source's path.
        self.handed: dict[str, str] = {}
        self.actions: Counter[str] = Counter()
        self.watched: Counter[str] = Counter()

    def accept(self, task_id: str, door: str, kind: str, *, user_id: str | None = None) -> None:
        """Remember a task that was accepted."""
        if task_id not in self.accepted:
            self.accepted[task_id] = Accepted(task_id, door, kind, user_id=user_id)

    def fault(self, kind: str, example: str) -> None:
        """Count something that must not happen."""
        self.faults[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < 10:
            examples.append(f"{time.strftime('%H:%M:%S')} {example}")
            print(f"fault: {kind}: {example}", flush=True)

    def recent(self, count: int) -> list[Accepted]:
        """Return the tasks that were accepted last."""
        return [self.accepted[task_id] for task_id in list(self.accepted)[-count:]]
