"""The audit of operator actions."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from celeriac.store.audit import AuditLog
from celeriac_api.access.rights import ADMIN
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import problems
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["operations"])

_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


class AuditItem(BaseModel):
    """Who did what. `status` is that of the answer, or `done` for a command."""

    id: str
    at: str
    actor: str
    action: str
    target: str
    status: str
    address: str
    credential: str


class AuditPage(BaseModel):
    """A page of entries, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "id": "1896076800000-0",
                            "at": "2030-01-31T08:00:00.000Z",
                            "actor": "user:7",
                            "action": "task.cancel",
                            "target": f"/api/v1/tasks/{TASK_ID}/cancel",
                            "status": "200",
                            "address": "192.0.2.7",
                            "credential": "5f0c2b9d1e7a4c33",
                        }
                    ],
                    "next_cursor": None,
                }
            ]
        }
    )

    items: list[AuditItem]
    next_cursor: str | None


@router.get(
    "/audit",
    access=ADMIN,
    summary="Read the audit",
    description="Who did what, when, from which address and with which credential: the newest first. Submissions and "
    "reads are not recorded. If there are more entries than `access.audit_entries` (setting), the oldest are removed.",
    response_model=AuditPage,
    responses=problems("invalid_request", "store_unavailable"),
)
async def read_audit(
    parts: PartsOf,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries per page.")] = 100,
    cursor: Annotated[
        str | None, Query(pattern=f"^{_ID.pattern}$", description="The `next_cursor` of the previous page.")
    ] = None,
    task_id: Annotated[
        str | None,
        Query(max_length=256, description="Only entries about this task, the newest `limit` ones; without `cursor`."),
    ] = None,
) -> Response:
    """Answer with a page of entries."""
    if task_id is not None:
        about = await AuditLog(parts.store).of_task(task_id, count=limit)
        return json_response({"items": about, "next_cursor": None})
    items = await AuditLog(parts.store).page(before=cursor, count=limit)
    return json_response({"items": items, "next_cursor": items[-1]["id"] if len(items) == limit else None})
