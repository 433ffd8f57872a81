"""The workers of one group that are connected to this process: where the idle ones get their tasks."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from celeriac.errors import NotReplicatedError, StoreUnavailableError
from celeriac.store.remote import Grant, Offer, RemoteTasks
from celeriac_api.gateway.connection import WorkerConnection

log = logging.getLogger(__name__)

#: Most tasks of one claim.
_MOST: Final = 128
#: Pause after a claim without an answer of the store (seconds).
_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim for these workers, in the order of their ids in the offer."""

    offer: Offer
    offered: list[WorkerConnection]
    #: When the leases of what it was granted have ended for certain (the loop's clock).
    give_up_at: float


class GroupWorkers:
    """Claims as many tasks as there are idle workers. The worker that became idle first is served first.

    It claims when it is woken, and goes on while tasks are left. `give` receives each task with its worker, `return_` a
    task whose worker left meanwhile.
    """

    def __init__(
        self,
        group: str,
        remote: RemoteTasks,
        *,
        give: Callable[[WorkerConnection, Grant], object],
        return_: Callable[[Grant], object],
        lease_s: float,
    ) -> None:
        self.group = group
        #: The workers of the group that this process holds.
        self.connections: set[WorkerConnection] = set()
        #: Ends the subscription to the group's wakes.
        self.end: Callable[[], None] | None = None
        self._remote = remote
        self._give = give
        self._return = return_
        self._lease_s = lease_s
        self._idle: OrderedDict[WorkerConnection, None] = OrderedDict()
        #: How many tasks to ask for next; 0 if no task is known to wait.
        self._wanted = 0
        self._in_flight = 0
        #: The last claim that was made together with a submission.
        self._joint: _Claim | None = None

    def wake(self, _: str | None = None) -> None:
        """Look for tasks, because one may be waiting."""
        self._wanted = max(self._wanted, 1)
        self.ask()

    def update(self, connection: WorkerConnection) -> None:
        """Note that a worker may have become idle or busy."""
        if connection.free > 0:
            if connection not in self._idle:
                self._idle[connection] = None
                if self._wanted:
                    self.ask()
        else:
            self._idle.pop(connection, None)

    def remove(self, connection: WorkerConnection) -> None:
        """Forget a worker. Idempotent."""
        self.connections.discard(connection)
        self._idle.pop(connection, None)

    def pass_over(self, connection: WorkerConnection) -> bool:
        """Serve a worker after all others; returns whether another one is idle."""
        if connection in self._idle:
            self._idle.move_to_end(connection)
        return any(other is not connection for other in islice(self._idle, 2))

    def submitting(self) -> bool:
        """Claim together with a submission; returns whether a worker is idle that may get the task.

        Call it in the same tick as the submission and after it: then both share one round trip.
        """
        if not self._idle:
            return False
        claim = self._joint
        if claim is None or claim.offer.is_closed or len(claim.offered) >= _MOST:
            # All that is submitted until it is sent shares it.
            claim = self._joint = self._launch(1, tell=True)
        else:
            self._add(claim, 1)
        return True

    @property
    def idle(self) -> bool:
        """Whether a worker is idle."""
        return bool(self._idle)

    def ask(self) -> None:
        """Claim for the idle workers, if tasks are wanted."""
        if self._wanted and self._idle and not self._in_flight:
            wanted, self._wanted = self._wanted, 0
            self._launch(wanted, tell=False)

    def _launch(self, count: int, *, tell: bool) -> _Claim:
        self._in_flight += 1
        give_up_at = asyncio.get_running_loop().time() + self._lease_s
        claim = _Claim(self._remote.offer(self.group, tell=tell), [], give_up_at)
        self._add(claim, count)
        self._send(claim)
        return claim

    def _add(self, claim: _Claim, count: int) -> None:
        """Offer the claim's tasks to `count` more workers, as far as so many are idle."""
        wanted = len(claim.offered) + count
        while len(claim.offered) < wanted and self._idle:
            for connection in list(islice(self._idle, wanted - len(claim.offered))):
                connection.reserved += 1
                claim.offered.append(connection)
                claim.offer.workers.append(connection.worker_id)
                if connection.free == 0:
                    del self._idle[connection]

    def _send(self, claim: _Claim) -> None:
        self._remote.claim(claim.offer).add_done_callback(lambda done: self._claimed(done, claim))

    def _claimed(self, answer: asyncio.Future[list[Any]], claim: _Claim) -> None:
        offered = claim.offered
        error = None if answer.cancelled() else answer.exception()
        loop = asyncio.get_running_loop()
        # The claim may have been granted, and only the answer got lost. One that too few replicas have was granted, and
        # each repetition renews the leases of its tasks. A task of a worker that has left since goes back.
        may_be_granted = isinstance(error, StoreUnavailableError) and loop.time() < claim.give_up_at
        if (may_be_granted or isinstance(error, NotReplicatedError)) and not self._remote.stopped:
            loop.call_later(_PAUSE_S, self._send, claim)
            return
        self._in_flight -= 1
        for connection in offered:
            connection.reserved -= 1
        if answer.cancelled() or error is not None:
            # If it was granted nevertheless, the lease of each task runs out.
            if error is not None and not isinstance(error, StoreUnavailableError):
                log.error("claiming for group %s failed", self.group, exc_info=error)
            loop.call_later(_PAUSE_S, self.wake)
            given = 0
        else:
            grants = self._remote.read_grants(claim.offer.number, answer.result())
            given = len(grants.granted)
            if grants.left:
                self._wanted = max(self._wanted, min(grants.left, _MOST))
            for grant in grants.granted:
                connection = offered[grant.place]
                if connection.closed or not connection.takes:
                    self._return(grant)
                else:
                    self._give(connection, grant)
        # The workers that got nothing stay first.
        for connection in reversed(offered[given:]):
            if connection.free > 0 and connection not in self._idle:
                self._idle[connection] = None
                self._idle.move_to_end(connection, last=False)
        for connection in offered[:given]:
            if connection.free > 0 and connection not in self._idle:
                self._idle[connection] = None
        self.ask()
