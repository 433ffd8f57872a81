# Generated from ../asynchronous/submit_many.py by tools/generate_sync_client.py: edit that file and run `make client`.
"""Submits any number of tasks in few requests."""

from __future__ import annotations

from collections.abc import Iterable

from celeriac.client.batches import EncodedTask, batch_body, encode, split
from celeriac.client.calls import TASKS, Call
from celeriac.client.generated_blocking.api import Api
from celeriac.client.inputs import NewTask
from celeriac.client.outputs import document_of, error_of_problem, member, status_of
from celeriac.client.retrying import TRANSIENT
from celeriac.errors import ApiError, BatchRefusedError, CeleriacError
from celeriac.model import Status

#: By place.
_Accepted = dict[int, tuple[str, Status]]
_Refused = dict[int, CeleriacError]


def submit_many(api: Api, tasks: Iterable[NewTask]) -> list[tuple[str, Status]]:
    """Submit all tasks; return the id and the status of each, in their order.

    Raises `BatchRefusedError` if some were refused. It also raises it if the API went away between two requests:
    the error then tells of all tasks up to those of the request that failed, and the later tasks were not sent.
    """
    accepted: _Accepted = {}
    refused: _Refused = {}
    for batch in split(encode(tasks, refused, api.new_key)):
        try:
            _submit_batch(api, batch, accepted, refused)
        except CeleriacError as exc:
            refused.update((place, exc) for place, _ in batch if place not in accepted and place not in refused)
            break
    if refused:
        ids = {place: task_id for place, (task_id, _) in sorted(accepted.items())}
        raise BatchRefusedError(ids, dict(sorted(refused.items())))
    return [accepted[place] for place in range(len(accepted))]


def _submit_batch(api: Api, batch: list[EncodedTask], accepted: _Accepted, refused: _Refused) -> None:
    """Send one batch, and again those of its tasks that met a transient refusal.

    Each of its tasks goes into `accepted` or into `refused`.
    """
    failures = 0
    while batch:
        answer = api.exchange(Call("POST", f"{TASKS}/batch", body=batch_body(batch)))
        results = member(document_of(answer), "results", list)
        if len(results) != len(batch):
            reason = f"the answer has {len(results)} results for {len(batch)} tasks"
            raise ApiError(reason, status=answer.status, code="unreadable")
        failures += 1
        pause_s = api.retrying.pause_s(failures)
        again: list[EncodedTask] = []
        for submission, result in zip(batch, results, strict=True):
            if result["status"] in TRANSIENT and pause_s is not None:
                again.append(submission)
            elif result["status"] < 300:
                accepted[submission.place] = str(result["task_id"]), status_of(result, "task_status")
            else:
                refused[submission.place] = error_of_problem(result["error"])
        if again and pause_s is not None:
            api.clock.sleep(pause_s)
        batch = again
