"""The calls of a gateway: tasks for its workers, the workers' presence, and ends that only remote tasks have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeriac import json_text
from celeriac.model import Claim, Status, Submission
from celeriac.store import keys
from celeriac.store.records import claim_from_reply
from celeriac.store.server.durability import ReplicasMissingError
from celeriac.store.submit_call import submit_arguments
from celeriac.store.task_store import TaskStore


@dataclass(frozen=True, slots=True)
class Grant:
    """A claimed task for the worker at `place` (from 0) of those that were offered."""

    place: int
    claim: Claim
    #: Milliseconds from the claim to the task's deadline; None if it has no deadline.
    deadline_in_ms: int | None
    #: The channel on which its end is published.
    reply_to: str | None


@dataclass(frozen=True, slots=True)
class Grants:
    """The tasks that a claim was granted, and how many tasks are left waiting in the group."""

    granted: list[Grant]
    left: int


class Offer:
    """Workers that take the next tasks of a group, one each, in this order.

    As arguments of `claim_remote.lua` it can be gone through any number of times; from the first time on it is closed.
    """

    __slots__ = ("_fence", "_gateway", "_group", "_tell", "is_closed", "number", "workers")

    def __init__(self, group: str, gateway: str, number: int, fence: str, tell: bool) -> None:
        self.number = number
        #: The ids of the workers.
        self.workers: list[str] = []
        #: It was sent, so that no worker can be added any more.
        self.is_closed = False
        self._group = group
        self._gateway = gateway
        self._fence = fence
        #: Wake other gateways if tasks are left over.
        self._tell = "1" if tell else "0"

    def __iter__(self) -> Iterator[Any]:
        self.is_closed = True
        workers = json_text.write(self.workers)
        return iter((self._group, workers, self._gateway, self.number, self._fence, self._tell))


class RemoteTasks:
    """A gateway's calls; `gateway` is an id that no other process has."""

    def __init__(self, store: TaskStore, gateway: str) -> None:
        self.gateway = gateway
        #: The gateway has ended, and takes no more tasks.
        self.stopped = False
        self._store = store
        self._calls = 0

    def kind_of(self, template: Submission) -> str:
        """Return what submissions like this one have in common, as the store reads it.

        Raises `InvalidSubmissionError` for a group whose name is taken.
        """
        return submit_arguments(template, self._store.settings.queues, "")[3]

    async def submit(self, task_id: str, payload: str, kind: str, then: Callable[[], object] | None = None) -> Any:
        """Submit a task of a kind, and call `then` in the same tick: its calls are sent with the submission, after it.

        Returns what `submit_call.heard_for_good` reads; a text means that the task was created.
        """
        answer = self._store.call("submit", task_id, payload, self._store.unique(), kind)
        if then is not None:
            then()
        try:
            return await answer
        except ReplicasMissingError as exc:
            return exc

    def submit_soon(
        self,
        task_id: str,
        payload: str,
        kind: str,
        heard: Callable[[Any], None],
        then: Callable[[], object] | None = None,
    ) -> None:
        """Submit as `submit` does; `heard` gets what it would return, or an error. It must not raise."""
        self._store.submit_soon(task_id, payload, kind, heard)
        if then is not None:
            then()

    def offer(self, group: str, *, tell: bool = False) -> Offer:
        """Return an offer for the next tasks of a group; its number goes up. To be sent with `claim`."""
        self._calls += 1
        return Offer(group, self.gateway, self._calls, self._fence(self._calls), tell)

    def claim(self, offer: Offer) -> asyncio.Future[list[Any]]:
        """Claim tasks for the workers of an offer; `read_grants` reads the answer.

        It is sent with what is submitted in the same tick of the loop, after it. Workers may be added until then. If
        the answer got lost, it may be claimed again: it gets the tasks that it was granted and still holds, with new
        leases. A claim that never arrived gets no tasks if a later one arrived before it.
        """
        return self._store.call_with("claim_remote", offer)

    def read_grants(self, number: int, reply: Sequence[Any]) -> Grants:
        """Return the answer of `claim` as grants; `number` is that of the offer."""
        return Grants([self._grant(number, fields) for fields in reply[1:]], int(reply[0]))

    def abandon(self, claim: Claim) -> asyncio.Future[str]:
        """Take a task back from a worker that vanished; the future gets `lua/transitions/abandon.lua`'s answer."""
        return self._store.call("abandon", claim.task_id, claim.fence)

    def complete(self, claim: Claim, result_json: str) -> asyncio.Future[str]:
        """End an attempt with its result for a caller of this process, who is told by the process itself.

        The future gets `lua/transitions/complete_remote.lua`'s answer.
        """
        return self._store.call("complete_remote", claim.task_id, claim.fence, result_json)

    def delta(self, claim: Claim, number: int, content: str) -> asyncio.Future[str]:
        """Pass on part of a result; the future gets `lua/transitions/delta.lua`'s answer."""
        return self._store.call("delta", claim.task_id, claim.fence, number, content)

    async def time_out(self, task_id: str) -> Status | int | None:
        """End a task whose deadline has passed.

        Returns its status, or the milliseconds that are left until the deadline, or None if there is no such task.
        """
        answer: str = await self._store.call("time_out", task_id)
        if answer.startswith("in:"):
            return int(answer.removeprefix("in:"))
        return Status(answer) if answer else None

    def note_presence(
        self,
        group: str,
        held: int,
        *,
        worker: str = "",
        facts: Mapping[str, str] | None = None,
        models: Sequence[str] = (),
    ) -> asyncio.Future[str]:
        """Note how many workers of a group are connected here, and the facts about one of them (None: it left)."""
        pairs = [part for pair in facts.items() for part in pair] if facts else []
        return self._store.call(
            "remote_presence",
            self.gateway,
            group,
            held,
            worker,
            json_text.write(pairs) if pairs else "",
            json_text.write(list(models)) if models else "",
        )

    async def models(self) -> list[tuple[str, str]]:
        """Return the pairs (group, model) that connected workers announced, sorted.

        Each group that has connected workers is also there with the model "".
        """
        (seconds, _), members = await self._store.read(("TIME",), ("ZRANGE", keys.MODELS, 0, -1, "WITHSCORES"))
        split = (str(member).partition("/") for member, until_ms in members if float(until_ms) >= int(seconds) * 1000)
        return sorted((group, model) for group, _, model in split)

    def _fence(self, number: int) -> str:
        return f"{self.gateway}-{number}"

    def _grant(self, number: int, fields: Sequence[Any]) -> Grant:
        place, task_id, left_ms, reply_to, *granted = fields
        claim = claim_from_reply(task_id, f"{self._fence(number)}:{int(place)}", granted)
        return Grant(int(place) - 1, claim, int(left_ms) if left_ms else None, reply_to)
