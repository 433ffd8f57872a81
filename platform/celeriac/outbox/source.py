"""What the relay needs of a database with an outbox, and which ones this process relays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from celeriac.errors import CeleriacError

#: The table, and on PostgreSQL the channel on which its writers say that a row has come.
TABLE: Final = "celeriac_outbox"
CHANNEL: Final = "celeriac_outbox"
#: What asks a database for its own time (ms since the epoch), by the name of its kind.
NOW_MS: Final = {
    "postgresql": "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "mysql": "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
}


class OutboxUnavailableError(CeleriacError, ConnectionError):
    """The database of an outbox does not answer, or has no outbox; what is in it waits there."""

    def __init__(self, name: str, error: Exception) -> None:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        super().__init__(f"the outbox of {name}: {said or type(error).__name__}")


@dataclass(frozen=True, slots=True)
class TakenRow:
    """A row that this relay has for a while."""

    task_id: str
    submission: str
    #: How often it was taken, this time included.
    attempts: int


@dataclass(frozen=True, slots=True)
class OutboxStanding:
    """How an outbox is doing."""

    rows: int
    #: How long ago the oldest row was made (ms); 0 without rows.
    oldest_ms: int
    #: How many of the rows were refused, and what was said of the oldest of these.
    refused: int = 0
    problem: str = ""


class OutboxSource(Protocol):
    """A database with an outbox, for one relay. Each method raises `OutboxUnavailableError`."""

    #: What people call it: in metrics, in the log, in `celeriac doctor`.
    name: str

    async def take(self, limit: int, lease_s: float) -> list[TakenRow]:
        """Take up to `limit` free rows, the oldest first; they are free again after `lease_s`."""
        ...

    async def remove(self, task_ids: Sequence[str]) -> None:
        """Delete rows whose tasks are in the store."""
        ...

    async def put_back(self, task_id: str, problem: str, pause_s: float) -> None:
        """Note why a row was refused; it is free again after `pause_s`."""
        ...

    async def standing(self) -> OutboxStanding:
        """Return how it is doing."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Wait for a new row, at most so long; a database that tells nothing is looked at after that."""
        ...

    async def close(self) -> None:
        """Disconnect. Idempotent."""
        ...


_made: Final[dict[str, Callable[[], OutboxSource]]] = {}


def relay_from(name: str, make: Callable[[], OutboxSource]) -> None:
    """Have this process relay an outbox if it is a worker or a beat; a second one of the name replaces the first."""
    _made[name] = make


def has_sources() -> bool:
    """Whether modules of `imports` have added an outbox."""
    return bool(_made)


def added_sources() -> list[OutboxSource]:
    """Return the sources that modules of `imports` have added, new ones for each caller."""
    return [make() for make in _made.values()]
