"""The calls of a gateway: tasks for its workers, the workers' presence, and ends that only remote tasks have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeriac import json_text
from celeriac.model import Claim, Status, Submission, Submitted
from celeriac.store import keys
from celeriac.store.records import claim_from_reply
from celeriac.store.submit_call import submission_arguments, submitted
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


class RemoteTasks:
    """A gateway's calls; `gateway` is an id that no other process has."""

    def __init__(self, store: TaskStore, gateway: str) -> None:
        self.gateway = gateway
        #: The gateway has ended, and takes no more tasks.
        self.stopped = False
        self._store = store
        self._calls = 0

    async def submit(self, submission: Submission, then: Callable[[], object] | None = None) -> Submitted:
        """Submit, and call `then` in the same tick: the calls that it makes are sent with the submission, after it."""
        arguments = submission_arguments(submission, self._store.settings.queues, self._store.unique())
        answer = self._store.call("submit", *arguments)
        if then is not None:
            then()
        return submitted(submission, await answer)

    def claim_next(self, group: str, workers: Sequence[str], *, tell: bool = False) -> asyncio.Future[list[Any]]:
        """Claim the next tasks of a group, one for each of `workers` (ids); `read_grants` reads the answer.

        It is sent with what was submitted in the same tick of the loop, after it. `tell`: wake other gateways if
        tasks are left over.
        """
        self._calls += 1
        return self.claim_again(group, workers, self._calls, tell=tell)

    def claim_again(
        self, group: str, workers: Sequence[str], number: int, *, tell: bool = False
    ) -> asyncio.Future[list[Any]]:
        """Repeat a claim whose answer got lost. It gets the tasks that it was granted and still holds, with new leases.

        A claim that never arrived gets no tasks if a later claim arrived before it.
        """
        offered = json_text.write(list(workers))
        fence = self._fence(number)
        return self._store.call("claim_remote", group, offered, self.gateway, number, fence, "1" if tell else "0")

    def read_grants(self, number: int, reply: Sequence[Any]) -> Grants:
        """Return the answer of `claim_next` as grants; `number` is the value of `calls` right after that call."""
        return Grants([self._grant(number, fields) for fields in reply[1:]], int(reply[0]))

    @property
    def calls(self) -> int:
        """How many claims were made so far."""
        return self._calls

    def abandon(self, claim: Claim) -> asyncio.Future[str]:
        """Take a task back from a worker that vanished; the future gets `lua/transitions/abandon.lua`'s answer."""
        return self._store.call("abandon", claim.task_id, claim.fence)

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
