"""What tasks need of a connection, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from celeriac.calling.access import Ended
from celeriac.calling.options import NewTask, Payload, submission_document, to_json
from celeriac.client.http.api import Api
from celeriac.client.http.calls import TASKS, Call, idempotent, task_path
from celeriac.client.http.following import follow
from celeriac.client.http.long_requests import LongRequests, waiting
from celeriac.client.outputs import document_of, log_line_of, outcome_of, task_of
from celeriac.errors import WaitTimeoutError
from celeriac.model import LogLine, Outcome, Progress, Status, Task
from celeriac.tasks.request import check_idempotency_key

#: Lines of one page of a log.
_LINES: Final = 1000
#: Where the server cannot be asked to wait, the status is asked for at intervals of an eighth of the time waited so
#: far, within these bounds. So the wait is at most an eighth longer than necessary, and costs few requests.
_FIRST_INTERVAL_S: Final = 0.02
_LAST_INTERVAL_S: Final = 1.0


class HttpAccess:
    """Tasks through the HTTP API; see `TaskAccess`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._long = LongRequests(api.clock)

    async def submit(self, task: NewTask) -> tuple[str, Status]:
        """See `TaskAccess.submit`."""
        return await self._api.act(self._submission(task))

    async def run(self, task: NewTask) -> Outcome:
        """See `TaskAccess.run`. The answer to the submission is the outcome, if it comes soon."""
        call = self._submission(task)
        if wait_s := self._long.next_s():
            answer = await self._long.answer(self._api, waiting(call, wait_s))
            if answer is not None:
                document = document_of(answer)
                # A server of an earlier version does not wait.
                outcome = outcome_of({"result": None, "error": None, **document})
                return outcome if outcome.status.final else await self.outcome(outcome.task_id, None)
        # It has the same key, so that it is the same submission.
        task_id, _ = await self._api.act(call)
        return await self.outcome(task_id, None)

    async def get(self, task_id: str) -> Task:
        """See `TaskAccess.get`."""
        return task_of(await self._api.document(Call("GET", task_path(task_id))))

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """See `TaskAccess.ended`. An API that is not available is waited for until then only."""
        await self.outcome(task_id, timeout)
        return await self.get(task_id)

    async def outcome(self, task_id: str, timeout: float | None) -> Outcome:
        """See `TaskAccess.outcome`. The server answers when the task has ended; otherwise it is asked at intervals."""
        clock = self._api.clock
        began = clock.now()
        give_up_at = None if timeout is None else began + timeout
        path = f"{task_path(task_id)}/result"
        while True:
            wait_s = self._long.next_s(None if give_up_at is None else give_up_at - clock.now())
            asked_at = clock.now()
            answer = await self._long.answer(self._api, waiting(Call("GET", path), wait_s)) if wait_s else None
            if answer is not None:
                outcome = outcome_of(document_of(answer))
                status = outcome.status
                if status.final:
                    return outcome
            else:
                status = await self._api.status(task_id, give_up_at)
                if status.final:
                    return Outcome.of(await self.get(task_id))
            now = clock.now()
            if give_up_at is not None and now >= give_up_at:
                raise WaitTimeoutError(task_id, status, give_up_at - began)
            if answer is not None and now - asked_at >= wait_s / 2:
                continue
            # Nobody waited: the server is about to stop, or does not wait.
            pause_s = min(max((now - began) / 8, _FIRST_INTERVAL_S), _LAST_INTERVAL_S)
            await clock.sleep(pause_s if give_up_at is None else min(pause_s, give_up_at - now))

    async def cancel(self, task_id: str) -> Status:
        """See `TaskAccess.cancel`."""
        _, status = await self._api.act(Call("POST", f"{task_path(task_id)}/cancel"))
        return status

    async def retry(self, task_id: str, payload: Payload | None) -> Status:
        """See `TaskAccess.retry`."""
        body = None if payload is None else to_json({"payload": payload})
        headers = idempotent(self._api.new_key())
        _, status = await self._api.act(Call("POST", f"{task_path(task_id)}/retry", body=body, headers=headers))
        return status

    def _submission(self, task: NewTask) -> Call:
        # Every try has the same key, so that they make one task.
        key = task.get("idempotency_key") or self._api.new_key()
        check_idempotency_key(key)
        return Call("POST", TASKS, body=to_json(submission_document(task)), headers=idempotent(key))

    def follow(self, task_id: str) -> AsyncGenerator[Progress | Ended]:
        """See `TaskAccess.follow`. A connection that breaks is made again; no report is lost or repeated."""
        return follow(self._api, task_id)

    def log(self, task_id: str, level: str) -> AsyncGenerator[LogLine]:
        """See `TaskAccess.log`. Pages are read as they are needed."""
        return self._api.items(f"{task_path(task_id)}/log", (("level", level),), log_line_of, page_size=_LINES)
