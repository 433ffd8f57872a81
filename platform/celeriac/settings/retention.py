"""How long finished tasks are kept, by type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celeriac.settings.engine import TypeSettings


@dataclass(frozen=True, slots=True)
class Retentions:
    """How long finished tasks are kept (seconds): records in Redis, and tasks in history. Types may have their own."""

    record_s: float
    history_s: float
    types: Mapping[str, TypeSettings]

    def record_of(self, task_type: str, own_s: float | None = None) -> float:
        """Return how long a record of this type stays in Redis; the type itself declares `own_s`."""
        configured = self.types.get(task_type)
        if configured is not None and configured.retention is not None:
            return configured.retention
        return self.record_s if own_s is None else own_s

    def history_of(self, task_type: str) -> float:
        """Return how long history keeps a task of this type."""
        configured = self.types.get(task_type)
        if configured is None or configured.ledger_retention is None:
            return self.history_s
        return configured.ledger_retention
