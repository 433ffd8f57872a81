"""How many submissions become few requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from celeriac.calling.options import NewTask, submission_document, to_json
from celeriac.errors import CeleriacError

#: Tasks of one request, and the bytes of their JSON: half of what a server takes by default.
BATCH_TASKS: Final = 500
BATCH_BYTES: Final = 4 * 1024**2


class EncodedTask(NamedTuple):
    """One task of many: its place in what the caller passed, counted from 0, and its JSON."""

    place: int
    body: bytes


def encode(
    tasks: Iterable[NewTask], refused: dict[int, CeleriacError], new_key: Callable[[], str]
) -> Iterator[EncodedTask]:
    """Yield each task as JSON, with an idempotency key. A task that cannot be written goes into `refused`."""
    for place, task in enumerate(tasks):
        try:
            key = task.get("idempotency_key") or new_key()
            body = to_json({**submission_document(task), "idempotency_key": key})
        except CeleriacError as exc:
            refused[place] = exc
        else:
            yield EncodedTask(place, body)


def split(submissions: Iterable[EncodedTask]) -> Iterator[list[EncodedTask]]:
    """Yield what fits into one request each. A task that is too large goes alone, and the server refuses it alone."""
    batch: list[EncodedTask] = []
    size = 0
    for submission in submissions:
        if batch and (len(batch) == BATCH_TASKS or size + len(submission.body) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(submission)
        size += len(submission.body) + 1
    if batch:
        yield batch


def batch_body(batch: Iterable[EncodedTask]) -> bytes:
    """Return the body of a request that submits the batch."""
    return b'{"tasks":[' + b",".join(submission.body for submission in batch) + b"]}"
