"""What tasks need of a connection, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from celeriac.calling.access import Ended
from celeriac.calling.options import NewTask, Payload, submission_document, to_json
from celeriac.client.http.api import Api
from celeriac.client.http.calls import TASKS, Call, idempotent, task_path
from celeriac.client.http.following import follow
from celeriac.client.outputs import log_line_of, task_of
from celeriac.errors import WaitTimeoutError
from celeriac.model import LogLine, Progress, Status, Task
from celeriac.tasks.request import check_idempotency_key

#: Lines of one page of a log.
_LINES: Final = 1000
#: `ended` asks for the status at intervals of an eighth of the time waited so far, within these bounds. So the wait
#: is at most an eighth longer than necessary, costs few requests, and keeps no connection busy.
_FIRST_INTERVAL_S: Final = 0.02
_LAST_INTERVAL_S: Final = 1.0


class HttpAccess:
    """Tasks through the HTTP API; see `TaskAccess`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def submit(self, task: NewTask) -> tuple[str, Status]:
        """See `TaskAccess.submit`."""
        # Every try has the same key, so that they make one task.
        key = task.get("idempotency_key") or self._api.new_key()
        check_idempotency_key(key)
        body = to_json(submission_document(task))
        return await self._api.act(Call("POST", TASKS, body=body, headers=idempotent(key)))

    async def get(self, task_id: str) -> Task:
        """See `TaskAccess.get`."""
        return task_of(await self._api.document(Call("GET", task_path(task_id))))

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """See `TaskAccess.ended`. An API that is not available is waited for until then only."""
        clock = self._api.clock
        began = clock.now()
        give_up_at = None if timeout is None else began + timeout
        while not (status := await self._api.status(task_id, give_up_at)).final:
            now = clock.now()
            pause_s = min(max((now - began) / 8, _FIRST_INTERVAL_S), _LAST_INTERVAL_S)
            if give_up_at is not None:
                if now >= give_up_at:
                    raise WaitTimeoutError(task_id, status, give_up_at - began)
                pause_s = min(pause_s, give_up_at - now)
            await clock.sleep(pause_s)
        return await self.get(task_id)

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

    def follow(self, task_id: str) -> AsyncGenerator[Progress | Ended]:
        """See `TaskAccess.follow`. A connection that breaks is made again; no report is lost or repeated."""
        return follow(self._api, task_id)

    def log(self, task_id: str, level: str) -> AsyncGenerator[LogLine]:
        """See `TaskAccess.log`. Pages are read as they are needed."""
        return self._api.items(f"{task_path(task_id)}/log", (("level", level),), log_line_of, page_size=_LINES)
