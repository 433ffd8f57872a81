"""The audit: who did what, when, and from where. A bounded stream in the store, so that an entry is as durable as the
action it tells of, and any process writes and reads it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from celeriac.model import rfc3339, utc_from_ms
from celeriac.store import keys
from celeriac.store.task_store import TaskStore

#: Longest text of a field (characters).
_MAX_TEXT: Final = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action of an operator. `status` is that of HTTP, or `done` where there was none."""

    actor: str
    action: str
    target: str
    status: str
    address: str = ""
    credential: str = ""


class AuditLog:
    """The audit of an installation."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._most = store.settings.access.audit_entries

    async def write(self, entry: AuditEntry) -> None:
        """Add an entry; raises `StoreUnavailableError`."""
        fields = [part for name, value in asdict(entry).items() if value for part in (name, value[:_MAX_TEXT])]
        await self._store.read(("XADD", keys.audit(), "MAXLEN", "~", self._most, "*", *fields))

    async def page(self, *, before: str | None = None, count: int = 100) -> list[dict[str, Any]]:
        """Return up to `count` entries, the newest first; `before` is the `id` of the last one seen."""
        if before is not None and not any(map(int, before.split("-"))):
            return []  # nothing lies before the lowest id there is, and the server refuses to look
        end = "+" if before is None else f"({before}"
        found = (await self._store.read(("XREVRANGE", keys.audit(), end, "-", "COUNT", count)))[0]
        return [_record(entry_id, fields) for entry_id, fields in found]


def _record(entry_id: str, fields: Any) -> dict[str, Any]:
    # A list of names and values where the client has not made a dictionary of it.
    known = dict(fields) if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    names = ("actor", "action", "target", "status", "address", "credential")
    at = rfc3339(utc_from_ms(int(entry_id.partition("-")[0])))
    return {"id": entry_id, "at": at, **{name: known.get(name, "") for name in names}}
