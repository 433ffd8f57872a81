"""What relays say of their outboxes, for metrics and `celeriac doctor`: other processes do not reach the databases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from celeriac import json_text
from celeriac.outbox.source import OutboxStanding
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms

#: A report that is older than this is dropped (ms): nobody relays that outbox any more.
_FORGOTTEN_MS: Final = 7 * 86_400_000
#: Most of a problem's text that is reported (characters).
_MOST_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class OutboxReport:
    """The last report of an outbox."""

    name: str
    standing: OutboxStanding
    #: How long ago it was made (ms).
    age_ms: int

    @property
    def lag_ms(self) -> int:
        """How old the oldest row is by now (ms), as far as is known; 0 without rows."""
        return self.standing.oldest_ms + self.age_ms if self.standing.rows else 0


async def report(store: TaskStore, name: str, standing: OutboxStanding) -> None:
    """Say how an outbox is doing; raises `StoreUnavailableError`."""
    told: dict[str, Any] = asdict(standing) | {"at_ms": await server_ms(store)}
    told["problem"] = standing.problem[:_MOST_TEXT]
    await store.read(("HSET", keys.OUTBOXES, name, json_text.write(told)))


async def read_reports(store: TaskStore) -> list[OutboxReport]:
    """Return the last report of each outbox, by name; raises `StoreUnavailableError`."""
    now_ms = await server_ms(store)
    found = []
    for name, text in sorted((await store.read(("HGETALL", keys.OUTBOXES)))[0].items()):
        told = json_text.read(text)
        age_ms = max(0, now_ms - told.pop("at_ms"))
        if age_ms > _FORGOTTEN_MS:
            await store.read(("HDEL", keys.OUTBOXES, name))
        else:
            found.append(OutboxReport(name, OutboxStanding(**told), age_ms))
    return found
