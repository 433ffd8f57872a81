"""Submits any number of tasks in few requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celeriac.calling.options import NewTask
from celeriac.client.batches import EncodedTask, batch_body, encode, split
from celeriac.client.http.api import Api
from celeriac.client.http.calls import TASKS, Call
from celeriac.client.http.retrying import TRANSIENT
from celeriac.client.outputs import document_of, error_of_problem, member, status_of
from celeriac.errors import ApiError, BatchRefusedError, CeleriacError
from celeriac.model import Status


class Batches:
    """Many tasks on their way, batch by batch.

    If the API goes away between two requests, the tasks of later batches are not sent, and `answers` tells of the
    others.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        # By place.
        self._accepted: dict[int, tuple[str, Status]] = {}
        self._refused: dict[int, CeleriacError] = {}

    def of(self, tasks: Iterable[NewTask]) -> Iterator[list[EncodedTask]]:
        """Yield the batches to send; tasks are taken from the iterable as they are needed."""
        return split(encode(tasks, self._refused, self._api.new_key))

    async def send(self, batch: list[EncodedTask]) -> bool:
        """Send one batch; return whether the next one should be sent."""
        try:
            await self._send(batch)
        except CeleriacError as exc:
            known = self._accepted.keys() | self._refused.keys()
            self._refused.update((place, exc) for place, _ in batch if place not in known)
            return False
        return True

    def answers(self) -> list[tuple[str, Status]]:
        """Return the id and the status of each task, in their order.

        Raises `BatchRefusedError` if some were refused or not sent.
        """
        if self._refused:
            ids = {place: task_id for place, (task_id, _) in sorted(self._accepted.items())}
            raise BatchRefusedError(ids, dict(sorted(self._refused.items())))
        return [self._accepted[place] for place in range(len(self._accepted))]

    async def _send(self, batch: list[EncodedTask]) -> None:
        """Send one batch, and again those of its tasks that met a transient refusal."""
        failures = 0
        while batch:
            answer = await self._api.exchange(Call("POST", f"{TASKS}/batch", body=batch_body(batch)))
            results = member(document_of(answer), "results", list)
            if len(results) != len(batch):
                reason = f"the answer has {len(results)} results for {len(batch)} tasks"
                raise ApiError(reason, status=answer.status, code="unreadable")
            failures += 1
            pause_s = self._api.retrying.pause_s(failures)
            again: list[EncodedTask] = []
            for submission, result in zip(batch, results, strict=True):
                if result["status"] in TRANSIENT and pause_s is not None:
                    again.append(submission)
                elif result["status"] < 300:
                    self._accepted[submission.place] = str(result["task_id"]), status_of(result, "task_status")
                else:
                    self._refused[submission.place] = error_of_problem(result["error"])
            if again and pause_s is not None:
                await self._api.clock.sleep(pause_s)
            batch = again
