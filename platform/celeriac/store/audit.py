"""The audit: who did what, when, and from where.

It is a bounded stream in the store. So an entry is as durable as the action that it describes, and any process can
write and read it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from celeriac.model import rfc3339, utc_from_ms
from celeriac.store import keys
from celeriac.store.task_store import TaskStore

#: Longest text of a field (characters).
_MAX_TEXT: Final = 500
#: How many entries are read at once when one is looked for.
_READ_AT_ONCE: Final = 1000
_LOOKS: Final = 20


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action of an operator. `status` is the HTTP status, or `done` for an action outside HTTP."""

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
        self._most = store.settings.audit_entries

    async def write(self, entry: AuditEntry) -> None:
        """Add an entry; raises `StoreUnavailableError`."""
        fields = [part for name, value in asdict(entry).items() if value for part in (name, value[:_MAX_TEXT])]
        await self._store.read(("XADD", keys.audit(), "MAXLEN", "~", self._most, "*", *fields))

    async def of_task(self, task_id: str, *, count: int = 100) -> list[dict[str, Any]]:
        """Return up to `count` entries about one task, the newest first, among the newest 20,000 of all."""
        found: list[dict[str, Any]] = []
        before: str | None = None
        for _ in range(_LOOKS):
            page = await self.page(before=before, count=_READ_AT_ONCE)
            found += [entry for entry in page if task_id in entry["target"].split("/")]
            if len(found) >= count or len(page) < _READ_AT_ONCE:
                break
            before = page[-1]["id"]
        return found[:count]

    async def page(self, *, before: str | None = None, count: int = 100) -> list[dict[str, Any]]:
        """Return up to `count` entries, the newest first; `before` is the `id` of the last one seen."""
        if before is not None and not any(map(int, before.split("-"))):
            return []  # nothing lies before the lowest possible id, and the server refuses such a range
        end = "+" if before is None else f"({before}"
        found = (await self._store.read(("XREVRANGE", keys.audit(), end, "-", "COUNT", count)))[0]
        return [_record(entry_id, fields) for entry_id, fields in found]


def _record(entry_id: str, fields: Any) -> dict[str, Any]:
    # Names and values in turn, if the driver has not made a dictionary of them.
    known = dict(fields) if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    names = ("actor", "action", "target", "status", "address", "credential")
    at = rfc3339(utc_from_ms(int(entry_id.partition("-")[0])))
    return {"id": entry_id, "at": at, **{name: known.get(name, "") for name in names}}
