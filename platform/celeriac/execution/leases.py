"""The attempts whose leases a process holds, of Celery workers and of remote workers alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from celeriac.execution.attempt_state import StopReason
from celeriac.model import Claim, LeaseState

#: What the holder of a lease has to do when a renewal says this.
_STOP: Final = {LeaseState.CANCEL: StopReason.CANCEL, LeaseState.LOST: StopReason.LOST}


class HeldAttempt(Protocol):
    """An attempt whose lease is renewed until its end is recorded."""

    @property
    def claim(self) -> Claim:
        """What proves that it is ours."""
        ...

    def stop(self, reason: StopReason) -> object:
        """Ask its code to stop; without effect once it has ended."""
        ...


class LeaseStore(Protocol):
    """Where leases are renewed; `TaskStore` is the real one."""

    async def renew(
        self, worker: str, claims: Sequence[Claim], facts: Mapping[str, str] | None = None
    ) -> list[LeaseState]:
        """Renew the presence of a worker and the leases of `claims`; returns the state of each, in their order."""
        ...


A = TypeVar("A", bound=HeldAttempt)


def _at_once(function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)


class Leases(Generic[A]):
    """Attempts by task. A task has more than one here while an old attempt has not noticed that it lost its claim.

    It belongs to the loop of the attempts; other threads may only iterate, and `renew`.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[A, ...]] = {}

    def __iter__(self) -> Iterator[A]:
        # One call into C, so that no other thread changes the dictionary meanwhile.
        for attempts in list(self._held.values()):
            yield from attempts

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def of_task(self, task_id: str) -> Sequence[A]:
        """Return the attempts of a task."""
        return self._held.get(task_id, ())

    def hold(self, attempt: A) -> None:
        """Renew the lease of an attempt from now on."""
        task_id = attempt.claim.task_id
        self._held[task_id] = (*self._held.get(task_id, ()), attempt)

    def drop(self, attempt: A) -> None:
        """Renew the lease of an attempt no more: its end is recorded, or is not ours to record. Idempotent."""
        task_id = attempt.claim.task_id
        left = tuple(held for held in self._held.get(task_id, ()) if held is not attempt)
        if left:
            self._held[task_id] = left
        else:
            self._held.pop(task_id, None)

    async def renew(
        self,
        store: LeaseStore,
        worker: str,
        facts: Mapping[str, str] | None = None,
        *,
        call: Callable[..., object] = _at_once,
    ) -> None:
        """Renew all leases, and the presence of `worker` with its `facts`; stop what was cancelled or lost meanwhile.

        It should be called three times per lease, so that two renewals in a row may get lost. A thread other
        than that of the attempts may call it: then `call(function, argument)` calls the attempts' `stop` in theirs.
        """
        attempts = list(self)
        if not attempts and not facts:
            return
        states = await store.renew(worker, [attempt.claim for attempt in attempts], facts)
        for attempt, state in zip(attempts, states, strict=True):
            if (reason := _STOP.get(state)) is not None:
                call(attempt.stop, reason)
