"""The workers that run now."""

from __future__ import annotations

from starlette.responses import Response

from celeriac.tasks.record import worker_record
from celeriac_api.access.rights import ADMIN
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import Workers
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["operations"])


@router.get(
    "/workers",
    access=ADMIN,
    summary="List the workers",
    description="Each worker process that reported recently. A worker that died disappears within the lease time.",
    response_model=Workers,
    responses=problems("store_unavailable"),
)
async def list_workers(parts: PartsOf) -> Response:
    """Answer with all workers."""
    return json_response({"workers": [worker_record(worker) for worker in await parts.store.workers()]})
