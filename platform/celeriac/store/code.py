"""Which task types and schedules the code of running workers has.

Each worker notes this once for its version of the code, under a digest, and names the digest in its presence. So many
workers of one version cost one note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import WorkerInfo
from celeriac.store import keys
from celeriac.store.owners import Owners
from celeriac.store.reading import StoreReader, serving

#: How long a note lives (seconds), and how often a worker renews it.
_NOTED_S: Final = 3600
RENEW_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Code:
    """A version of the code."""

    #: The names of all task types, plain Celery tasks included.
    types: frozenset[str] = frozenset()
    #: What the code says of the types that have schedules, by name: see `engine/announcing.py`.
    scheduled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def note_of(types: Iterable[str], scheduled: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Return the note of a version, and its digest."""
    text = json_text.write({"types": sorted(types), "scheduled": scheduled})
    return text, hashlib.sha256(text.encode()).hexdigest()[:32]


async def note_code(store: StoreReader, text: str, digest: str) -> int:
    """Note a version of the code for the next hour; returns the store's time (ms)."""
    _, (seconds, micros) = await store.read(("SET", keys.code(digest), text, "EX", _NOTED_S), ("TIME",))
    return int(seconds) * 1000 + int(micros) // 1000


async def code_of(store: StoreReader, workers: Sequence[WorkerInfo]) -> dict[str, Code]:
    """Return the versions that these workers run, by digest; those without a note are left out."""
    digests = sorted({worker.code for worker in workers if worker.code})
    found = await store.read(*(("GET", keys.code(digest)) for digest in digests))
    return {digest: code for digest, text in zip(digests, found, strict=True) if (code := _code(text)) is not None}


def knowing(task_type: str, workers: Iterable[WorkerInfo], codes: Mapping[str, Code]) -> list[WorkerInfo]:
    """Return those of `workers` that know a type; one whose code is not known counts among them."""
    return [worker for worker in workers if worker.code not in codes or task_type in codes[worker.code].types]


def celery_workers(group: str, workers: Sequence[WorkerInfo], owners: Owners) -> list[WorkerInfo]:
    """Return those of `workers` that serve a group and are not remote."""
    return [worker for worker in serving(group, workers, owners) if worker.kind == "celery"]


def _code(text: str | None) -> Code | None:
    if text is None:
        return None
    try:
        found = json_text.read(text)
        return Code(frozenset(map(str, found["types"])), dict(found["scheduled"]))
    except (JsonError, LookupError, TypeError, ValueError):
        # Another version wrote it.
        return None
