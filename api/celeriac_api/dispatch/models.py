"""Which group serves which model, according to the connected workers.

A group with a worker can be called by a model that nobody announced: `GROUP/MODEL`, and any name for `default`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from celeriac.settings import GROUP_NAME
from celeriac.store.remote import RemoteTasks

#: How long an answer of the store is valid (seconds).
_FRESH_S: Final = 1.0
#: The group, and the model of a call, that a caller who names none gets.
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Destination:
    """The group that a call goes to, and the name by which its workers know the model."""

    group: str
    model: str


class ModelDirectory:
    """The announced models and the groups with workers, read at most once a second, however many callers ask."""

    def __init__(self, remote: RemoteTasks) -> None:
        self._remote = remote
        self._known: list[tuple[str, str]] = []
        self._groups: list[str] = []
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def all(self) -> list[tuple[str, str]]:
        """Return (group, model) of each announced model, sorted; raises `StoreUnavailableError`."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at > _FRESH_S:
            async with self._lock:
                if loop.time() - self._read_at > _FRESH_S:
                    found = await self._remote.models()
                    self._known = [(group, model) for group, model in found if model]
                    self._groups = [group for group, model in found if not model]
                    self._read_at = loop.time()
        return self._known

    async def names(self) -> dict[str, str]:
        """Return the names of models for callers, each with its group; `group/model` if several groups have a model.

        Each group with a connected worker is there too: `default`, and `group/default` for the others.
        """
        known = await self.all()
        names = {_DEFAULT if group == _DEFAULT else f"{group}/{_DEFAULT}": group for group in self._groups}
        groups: dict[str, list[str]] = {}
        for group, model in known:
            groups.setdefault(model, []).append(group)
        return names | {
            (model if len(serving) == 1 or group == serving[0] else f"{group}/{model}"): group
            for model, serving in groups.items()
            for group in serving
        }

    async def find(self, name: str) -> Destination:
        """Return where a call for the model `name` goes.

        A model that was announced with exactly this name is preferred to `group/model`, because names of models may
        contain slashes.
        """
        for group, model in await self.all():
            if model == name:
                return Destination(group, model)
        group, slash, model = name.partition("/")
        if slash and model and GROUP_NAME.fullmatch(group) is not None:
            return Destination(group, model)
        return Destination("default", name)
