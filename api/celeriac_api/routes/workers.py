"""The workers that run now: read, drain and resume them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import Response

from celeriac.tasks.record import worker_record
from celeriac_api.access.rights import ADMIN
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import Worker, Workers
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["operations"])

WorkerId = Annotated[str, Path(description="The worker's id.", examples=["worker-4711@host"])]


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


@router.post(
    "/workers/{worker_id:path}/drain",
    access=ADMIN.audited("worker.drain"),
    summary="Drain a worker",
    description="The worker takes no more tasks, until it is resumed or started again. What it has taken runs to its "
    "end. Other workers take the tasks of its groups. A remote worker takes tasks again once it connects anew. Workers "
    "whose tasks come through RabbitMQ cannot be drained from here.",
    response_model=Worker,
    responses=problems("worker_not_found", "worker_not_drainable", "store_unavailable"),
)
async def drain_worker(worker_id: WorkerId, parts: PartsOf) -> Response:
    """Drain and answer with the worker."""
    return await _turned(parts, worker_id, drained=True)


@router.post(
    "/workers/{worker_id:path}/resume",
    access=ADMIN.audited("worker.resume"),
    summary="Resume a worker",
    description="A drained worker takes tasks again. Resuming a worker that takes tasks changes nothing.",
    response_model=Worker,
    responses=problems("worker_not_found", "worker_not_drainable", "store_unavailable"),
)
async def resume_worker(worker_id: WorkerId, parts: PartsOf) -> Response:
    """Resume and answer with the worker."""
    return await _turned(parts, worker_id, drained=False)


async def _turned(parts: Parts, worker_id: str, *, drained: bool) -> Response:
    await parts.store.drain(worker_id, drained=drained)
    return json_response(worker_record(await parts.store.worker(worker_id)))
