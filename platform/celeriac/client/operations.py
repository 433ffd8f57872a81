"""What the clients do, each operation once: generators of steps, without input and output (see `steps.py`)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from celeriac.client.charts import Chart, chart_of
from celeriac.client.inputs import (
    NewTask,
    Payload,
    batch_body,
    filter_document,
    filter_query,
    submission_document,
    to_json,
)
from celeriac.client.outputs import document_of, error_of, error_of_problem, log_line_of, member, status_of, task_of
from celeriac.client.retrying import TRANSIENT, Retrying, retry_after_s
from celeriac.client.steps import Answer, Call, Emit, LostConnectionError, Pause, Steps, Stream, send
from celeriac.errors import ApiError, ApiUnavailableError, BatchRefusedError, CeleriacError, WaitTimeoutError
from celeriac.model import LogLine, Status, Task
from celeriac.submission import check_idempotency_key

TASKS: Final = "/api/v1/tasks"

#: Tasks of one request of `submit_many`, and their size: half of what a server takes by default.
BATCH_TASKS: Final = 500
BATCH_BYTES: Final = 4 * 1024**2

#: Between two looks at a task that is waited for: an eighth of the wait so far, within these bounds. So waiting
#: costs at most an eighth more time, few requests, and no connection that is kept open.
_LOOK_FIRST_S: Final = 0.02
_LOOK_LAST_S: Final = 1.0

#: Records of one page of a listing, and lines of one of a log.
PAGE: Final = 200
LINES: Final = 1000

_Submission = tuple[int, bytes]


class Operations:
    """The operations, with what they share: the API's address (for messages), patience, keys and a clock."""

    def __init__(
        self,
        url: str,
        retrying: Retrying,
        *,
        new_key: Callable[[], str] = lambda: secrets.token_urlsafe(24),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.retrying = retrying
        self.clock = clock
        self._new_key = new_key

    # --- one task

    def submit(self, task: NewTask) -> Steps[tuple[str, Status]]:
        """Submit; returns id and status. However often it has to be sent, it makes one task."""
        key = task.get("idempotency_key") or self._new_key()
        check_idempotency_key(key)
        document = submission_document(task)
        body = to_json(document, "payload")
        return (yield from self._act(Call("POST", TASKS, body=body, headers=_idempotent(key))))

    def get(self, task_id: str) -> Steps[Task]:
        """Read a record."""
        return task_of(document_of((yield from self.exchange(Call("GET", task_path(task_id))))))

    def cancel(self, task_id: str) -> Steps[tuple[str, Status]]:
        """Cancel. Twice is the same as once."""
        return (yield from self._act(Call("POST", f"{task_path(task_id)}/cancel")))

    def retry(self, task_id: str, payload: Payload | None) -> Steps[tuple[str, Status]]:
        """Run a failed or cancelled task again, once, however often it has to be sent."""
        body = None if payload is None else to_json({"payload": payload}, "payload")
        call = Call("POST", f"{task_path(task_id)}/retry", body=body, headers=_idempotent(self._new_key()))
        return (yield from self._act(call))

    def status(self, task_id: str, give_up_at: float | None = None) -> Steps[Status]:
        """Read the status alone: a payload and a result may be large."""
        call = Call("GET", f"{task_path(task_id)}/progress")
        return status_of(document_of((yield from self.exchange(call, give_up_at))))

    def wait(self, task_id: str, timeout_s: float | None) -> Steps[Task]:
        """Return the record once the task has ended; raises `WaitTimeoutError`.

        An API that is away is not waited for longer than the task.
        """
        began = self.clock()
        give_up_at = None if timeout_s is None else began + timeout_s
        while not (status := (yield from self.status(task_id, give_up_at))).final:
            now = self.clock()
            pause_s = min(max((now - began) / 8, _LOOK_FIRST_S), _LOOK_LAST_S)
            if give_up_at is not None:
                if now >= give_up_at:
                    raise WaitTimeoutError(task_id, status, give_up_at - began)
                pause_s = min(pause_s, give_up_at - now)
            yield Pause(pause_s)
        return (yield from self.get(task_id))

    # --- many tasks

    def submit_many(self, tasks: Iterable[NewTask]) -> Steps[list[tuple[str, Status]]]:
        """Submit all in a few requests; returns id and status of each, in their order.

        Raises `BatchRefusedError` when all were sent and some were refused, or when the API went away in
        between: then the tasks of the batch on its way are the last ones that it tells of.
        """
        accepted: dict[int, tuple[str, Status]] = {}
        refused: dict[int, CeleriacError] = {}
        for batch in _batches(self._encoded(tasks, refused)):
            try:
                yield from self._submit_batch(batch, accepted, refused)
            except CeleriacError as exc:
                refused.update((place, exc) for place, _ in batch if place not in accepted and place not in refused)
                break
        if refused:
            ids = {place: task_id for place, (task_id, _) in sorted(accepted.items())}
            raise BatchRefusedError(ids, dict(sorted(refused.items())))
        return [accepted[place] for place in range(len(accepted))]

    def tasks(self, path: str, chosen: Mapping[str, Any], *, sort: str | None, limit: int | None) -> Stream[Task]:
        """Emit the records that match, page by page as they are asked for; at most `limit`."""
        left = limit
        query = (*filter_query(chosen), *(() if sort is None else (("sort", sort),)))
        cursor: tuple[tuple[str, str], ...] = ()
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = document_of(
                (yield from self.exchange(Call("GET", path, query=(*query, ("limit", str(size)), *cursor))))
            )
            items = member(page, "items", list)
            for record in items:
                yield Emit(task_of(record))
            if page.get("next_cursor") is None:
                return
            cursor = (("cursor", page["next_cursor"]),)
            left = None if left is None else left - len(items)

    def log(self, task_id: str, level: str) -> Stream[LogLine]:
        """Emit the lines of a task's log that there are by now, page by page as they are asked for."""
        path = f"{TASKS}/{quote(task_id, safe='')}/log"
        cursor: tuple[tuple[str, str], ...] = ()
        while True:
            query = (("level", level), ("limit", str(LINES)), *cursor)
            page = document_of((yield from self.exchange(Call("GET", path, query=query))))
            for record in member(page, "items", list):
                yield Emit(log_line_of(record))
            if page.get("next_cursor") is None:
                return
            cursor = (("cursor", page["next_cursor"]),)

    def bulk(self, action: str, chosen: Mapping[str, Any]) -> Steps[tuple[str, Status]]:
        """Start a bulk operation; returns id and status of the task that does it."""
        body = to_json({"action": action, "filter": filter_document(chosen), "dry_run": False}, "filter")
        return (yield from self._act(Call("POST", "/api/v1/bulk", body=body, headers=_idempotent(self._new_key()))))

    def bulk_count(self, action: str, chosen: Mapping[str, Any]) -> Steps[int]:
        """Return how many tasks a bulk operation would take."""
        body = to_json({"action": action, "filter": filter_document(chosen), "dry_run": True}, "filter")
        return int(
            member(document_of((yield from self.exchange(Call("POST", "/api/v1/bulk", body=body)))), "matched", int)
        )

    def stats(self, **chosen: Any) -> Steps[Chart]:
        """Read counts and durations over time; None is left out."""
        return chart_of(
            document_of((yield from self.exchange(Call("GET", "/api/v1/stats", query=filter_query(chosen)))))
        )

    # --- the wire

    def exchange(self, call: Call, give_up_at: float | None = None) -> Steps[Answer]:
        """Send until an answer comes that is not transient; raises the last one's error when patience ends.

        It also ends at `give_up_at`, a time of the clock.
        """
        failures = 0
        while True:
            try:
                answer = yield from send(call)
            except LostConnectionError as exc:
                failures += 1
                pause_s = self._pause_s(failures, 0, give_up_at)
                if pause_s is None:
                    raise ApiUnavailableError(self.url, str(exc)) from exc
            else:
                if answer.status not in TRANSIENT:
                    return answer
                failures += 1
                pause_s = self._pause_s(failures, retry_after_s(answer.headers), give_up_at)
                if pause_s is None:
                    raise error_of(answer)
            yield Pause(pause_s)

    def _pause_s(self, failures: int, asked_s: float, give_up_at: float | None) -> float | None:
        pause_s = self.retrying.pause_s(failures, asked_s)
        late = pause_s is not None and give_up_at is not None and self.clock() + pause_s > give_up_at
        return None if late else pause_s

    def _act(self, call: Call) -> Steps[tuple[str, Status]]:
        document = document_of((yield from self.exchange(call)))
        return str(member(document, "task_id", str)), status_of(document)

    def _encoded(self, tasks: Iterable[NewTask], refused: dict[int, CeleriacError]) -> Iterator[_Submission]:
        for place, task in enumerate(tasks):
            try:
                key = task.get("idempotency_key") or self._new_key()
                yield place, to_json({**submission_document(task), "idempotency_key": key}, "payload")
            except CeleriacError as exc:
                refused[place] = exc

    def _submit_batch(
        self, batch: list[_Submission], accepted: dict[int, tuple[str, Status]], refused: dict[int, CeleriacError]
    ) -> Steps[None]:
        """Send one batch, and what of it met a transient refusal again; sorts all into `accepted` and `refused`."""
        failures = 0
        while batch:
            answer = yield from self.exchange(Call("POST", f"{TASKS}/batch", body=batch_body(b for _, b in batch)))
            results = member(document_of(answer), "results", list)
            if len(results) != len(batch):
                raise ApiError("the answer has not a result for each task", status=answer.status, code="unreadable")
            failures += 1
            pause_s = self.retrying.pause_s(failures)
            again: list[_Submission] = []
            for (place, body), result in zip(batch, results, strict=True):
                if result["status"] in TRANSIENT and pause_s is not None:
                    again.append((place, body))
                elif result["status"] < 300:
                    accepted[place] = str(result["task_id"]), status_of(result, "task_status")
                else:
                    refused[place] = error_of_problem(result["error"])
            if again and pause_s is not None:
                yield Pause(pause_s)
            batch = again


def _batches(submissions: Iterator[_Submission]) -> Iterator[list[_Submission]]:
    """Yield what fits into one request each; one that is too large on its own goes alone, to be refused."""
    batch: list[_Submission] = []
    size = 0
    for place, body in submissions:
        if batch and (len(batch) == BATCH_TASKS or size + len(body) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((place, body))
        size += len(body) + 1
    if batch:
        yield batch


def task_path(task_id: str) -> str:
    """Return the path of a task."""
    return f"{TASKS}/{quote(task_id, safe='')}"


def _idempotent(key: str) -> dict[str, str]:
    return {"idempotency-key": key}
