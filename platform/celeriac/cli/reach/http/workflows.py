"""Workflows, through the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

from celeriac.cli.reach.http.calls import Server, within
from celeriac.cli.reach.platform import Record
from celeriac.client.inputs import filter_query
from celeriac.tasks.request import check_idempotency_key

_PATH: Final = "/workflows"
_PAGE: Final = 200


class HttpWorkflows:
    """See `WorkflowCalls`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def submit(self, document: Any, *, idempotency_key: str | None) -> Record:
        """See `WorkflowCalls.submit`."""
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
        status, answer = await self._server.send_for_status("POST", _PATH, document, key=idempotency_key)
        # A try that was repeated finds the workflow of the first one, which is new all the same.
        return {**answer, "created": idempotency_key is None or status == 202}

    async def get(self, workflow_id: str) -> Record:
        """See `WorkflowCalls.get`."""
        return await self._server.get(_PATH + within(workflow_id))

    def listed(self, limit: int, *, status: str | None, name: str | None) -> AsyncGenerator[Record]:
        """See `WorkflowCalls.listed`."""
        query = filter_query({"status": status, "name": name})
        return self._server.items(_PATH, query, page_size=_PAGE, limit=limit)

    async def cancel(self, workflow_id: str) -> Record:
        """See `WorkflowCalls.cancel`."""
        return await self._server.send("POST", f"{_PATH}{within(workflow_id)}/cancel")

    async def retry(self, workflow_id: str) -> Record:
        """See `WorkflowCalls.retry`."""
        return await self._server.send("POST", f"{_PATH}{within(workflow_id)}/retry")

    def watch(self, workflow_id: str) -> AsyncGenerator[Record]:
        """See `WorkflowCalls.watch`."""
        return self._server.workflow_events(workflow_id)
