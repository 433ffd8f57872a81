"""Which Celery apps use a group, so that workers of all groups of other apps leave its tasks alone.

An app notes the groups whose queues its workers serve by name, and those that it publishes to. A group without a note
is for every worker of all groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from celeriac.store import keys

#: At most this many pairs of a group and its app are noted.
MOST_OWNED: Final = 10_000
#: Separates the parts of a note; names of groups and apps do not contain it.
SEPARATOR: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Owners:
    """The apps that use a group, by the groups that were noted."""

    by_group: Mapping[str, frozenset[str]]

    def are_others(self, group: str, app: str) -> bool:
        """Return whether the group is for other apps than this one."""
        owners = self.by_group.get(group)
        return owners is not None and app not in owners


#: The command that reads what `owners_from` takes.
OWNERS_COMMAND: Final = ("ZRANGE", keys.OWNERS, 0, -1, "WITHSCORES")


def owners_from(notes: Iterable[tuple[str, Any]], now_ms: float) -> Owners:
    """Return the owners by the notes whose time is not over."""
    by_group: dict[str, set[str]] = {}
    for note, until_ms in notes:
        group, _, app = str(note).partition(SEPARATOR)
        if float(until_ms) > now_ms:
            by_group.setdefault(group, set()).add(app)
    return Owners({group: frozenset(apps) for group, apps in by_group.items()})


def owner_notes(app: str, groups: Iterable[str]) -> Sequence[str]:
    """Return the texts to note for the groups of an app."""
    return [f"{group}{SEPARATOR}{app}" for group in groups]
