"""Which groups are of an app, as its publishers see it; workers note theirs too (`consumer_steps.py`)."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any, Final

#: A process remembers at most this many groups.
_MOST_GROUPS: Final = 1000


class OwnedGroups:
    """The groups that a process has lately noted to be of its app."""

    def __init__(self, app: Any) -> None:
        self._app = app
        #: By group, when it was noted (monotonic seconds).
        self._noted: dict[str, float] = {}

    def note(self, group: str) -> None:
        """Note in the store that a group is of this app, unless this process did so lately.

        It comes before the first task, so that workers of all groups of other apps hear of both in this order. Raises
        `StoreUnavailableError`.
        """
        now = monotonic()
        if now - self._noted.get(group, -inf) <= self._app.celeriac_settings.group_ownership / 3:
            return
        if len(self._noted) >= _MOST_GROUPS:
            self._noted.clear()
        self._app.records.own_groups(app_name(self._app), [group])
        self._noted[group] = now


def app_name(app: Any) -> str:
    """Return the name under which an app owns groups."""
    return str(app.main or "celery")
