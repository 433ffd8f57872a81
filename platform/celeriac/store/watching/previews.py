"""The beginnings of records, for people who look at many tasks at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from celeriac.store import keys
from celeriac.store.life import field_of
from celeriac.store.server.scripts import script
from celeriac.store.task_store import TaskStore

#: Most records that one call of the script reads: it holds up all others meanwhile.
_PAGE: Final = 500


class Preview(NamedTuple):
    """What `previews.lua` answers for a record, in this order; "" for what the record does not have."""

    status: str
    group: str
    owner: str
    attempt: str
    started_at: str
    created_at: str
    payload: str
    result: str
    error_code: str
    error_message: str
    type: str
    priority: str
    delivery: str
    #: The whole payload, of which `payload` is the beginning (bytes).
    payload_bytes: Any
    life: str


async def read_previews(store: TaskStore, task_ids: Sequence[str], *, shown_bytes: int) -> dict[str, Preview]:
    """Return the beginning of each record that exists; one round trip."""
    source = script("previews").source
    pages = [task_ids[start : start + _PAGE] for start in range(0, len(task_ids), _PAGE)]
    replies = await store.read(
        *(("EVAL", source, len(page), *(keys.task(task_id) for task_id in page), shown_bytes) for page in pages)
    )
    return {
        task_id: _whole(Preview(*(field or "" for field in row)))
        for page, rows in zip(pages, replies, strict=True)
        for task_id, row in zip(page, rows, strict=True)
        if row
    }


def _whole(row: Preview) -> Preview:
    if not row.life:
        return row
    names = ("attempt", "started_at", "created_at")
    return row._replace(**{name: field_of(name, getattr(row, name) or None, row.life) or "" for name in names})
