"""Which tasks the running workers take: those of the groups that they serve and of the types that they know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from celeriac.model import Delivery, WorkerInfo
from celeriac.store.code import Code, code_of, knowing
from celeriac.store.owners import Owners
from celeriac.store.reading import StoreReader, serving


@dataclass(frozen=True, slots=True)
class Takers:
    """The living workers at one moment, and what they know."""

    workers: Sequence[WorkerInfo] = ()
    owners: Owners = field(default_factory=lambda: Owners({}))
    codes: Mapping[str, Code] = field(default_factory=dict)

    def serving(self, group: str, delivery: str) -> list[WorkerInfo]:
        """Return the workers that serve a group and take tasks of this delivery: remote ones, or all others."""
        return [worker for worker in self._of(group, delivery) if not worker.drained]

    def drained(self, group: str, delivery: str) -> int:
        """Return how many workers would serve the group, if an operator had not drained them."""
        return sum(worker.drained for worker in self._of(group, delivery))

    def _of(self, group: str, delivery: str) -> list[WorkerInfo]:
        remote = delivery == Delivery.REMOTE
        return [one for one in serving(group, self.workers, self.owners) if (one.kind == Delivery.REMOTE) == remote]

    def count(self, group: str, task_type: str, delivery: str) -> tuple[int, int]:
        """Return how many workers serve the group of a task, and how many of these know its type."""
        serve = self.serving(group, delivery)
        return len(serve), len(knowing(task_type, serve, self.codes))


async def read_takers(store: StoreReader, workers: Sequence[WorkerInfo] | None = None) -> Takers:
    """Return who takes tasks now; `workers` are the living ones, if the caller knows them."""
    living = await store.workers() if workers is None else workers
    return Takers(living, await store.owners(), await code_of(store, living))
