"""Which groups and types have counts of their own: a bounded number, since callers choose the names.

`lua/shared/counts.lua` gives a new name counts of its own while there is room, and counts all others as `other`. Here
the names that were used least lose theirs, so that there is room for new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from celeriac.store import keys
from celeriac.store.task_store import TaskStore

#: The label of all that has no counts of its own.
OTHER: Final = "other"
#: Most groups, and most types, with counts of their own; as in `lua/shared/counts.lua`.
MAX_LABELS: Final = 200
#: When there is no room, this many names keep their counts.
_KEPT: Final = 150

#: Separates the parts of a count's name; names of types and groups cannot contain it.
SEPARATOR: Final = "\x1f"
#: The place of a label in the name of a count: what is counted, group, type, status.
_PLACES: Final = {"groups": 1, "types": 2}


async def make_room(store: TaskStore) -> int:
    """Fold the least used names into `other` if there is no room for new ones; returns how many were folded.

    Configured groups, and the types that workers announced, keep theirs.
    """
    groups, types, announced = await store.read(
        ("SMEMBERS", keys.LABEL_GROUPS), ("SMEMBERS", keys.LABEL_TYPES), ("HKEYS", keys.TYPES)
    )
    queues = store.settings.queues
    kept = {
        "groups": {OTHER, *(name for name in groups if queues.is_configured(name))},
        "types": {OTHER, *announced},
    }
    folded = 0
    for kind, labels in (("groups", groups), ("types", types)):
        if len(labels) >= MAX_LABELS:
            (fields,) = await store.read(("HGETALL", keys.COUNTS))
            for label in least_used(fields, labels, kind, kept[kind]):
                await store.fold_counts(kind, label, pairs_of(fields, kind, label))
                folded += 1
    return folded


def least_used(fields: Mapping[str, str], labels: Collection[str], kind: str, kept: Collection[str]) -> list[str]:
    """Return the names that are to lose their counts, the least used first: all but the most used ones and `kept`."""
    submitted: Counter[str] = Counter({label: 0 for label in labels if label not in kept})
    for field, number in fields.items():
        what, *names = field.split(SEPARATOR)
        if what == "s" and len(names) == 2 and names[_PLACES[kind] - 1] in submitted:
            submitted[names[_PLACES[kind] - 1]] += int(number)
    least_first = sorted(submitted, key=lambda label: (submitted[label], label))
    return least_first[: max(len(labels) - _KEPT, 0)]


def pairs_of(fields: Iterable[str], kind: str, label: str) -> list[str]:
    """Return each count of a name, followed by the count of `other` that it is added to."""
    place = _PLACES[kind]
    pairs = []
    for field in fields:
        parts = field.split(SEPARATOR)
        if len(parts) > place and parts[place] == label:
            pairs += [field, SEPARATOR.join([*parts[:place], OTHER, *parts[place + 1 :]])]
    return pairs
