"""What is there: groups, workers, task types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from celeriac.model import GroupStats
from celeriac.record import plain_number, worker_record
from celeriac.registry import TaskType
from celeriac_api.openapi import problems
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.problems import GroupNotFoundError, TaskTypeNotFoundError
from celeriac_api.responses import json_response
from celeriac_api.schemas import Group, Groups, TaskTypeInfo, TaskTypes, Workers

router = APIRouter(prefix="/api/v1", tags=["operations"])


@router.get(
    "/groups",
    summary="List the groups",
    description="Each worker group with its waiting and running tasks and the workers that serve it.",
    response_model=Groups,
    responses=problems("store_unavailable"),
)
async def list_groups(parts: PartsOf) -> Response:
    """Answer with all groups: those that had tasks, and those of the configuration."""
    found = await parts.store.groups(also=("default", *parts.settings.groups))
    return json_response({"groups": [group_record(parts, stats) for stats in found]})


@router.get(
    "/groups/{name:path}",
    summary="Read a group",
    response_model=Group,
    responses=problems("group_not_found", "store_unavailable"),
)
async def read_group(name: Annotated[str, Path(description="The group's name.")], parts: PartsOf) -> Response:
    """Answer with one group."""
    if name != "default" and name not in parts.settings.groups:
        for stats in await parts.store.groups():
            if stats.name == name:
                return json_response(group_record(parts, stats))
        raise GroupNotFoundError(name)
    return json_response(group_record(parts, await parts.store.group(name)))


@router.get(
    "/workers",
    summary="List the workers",
    description="Each worker process that reported lately; one that died disappears within the lease time.",
    response_model=Workers,
    responses=problems("store_unavailable"),
)
async def list_workers(parts: PartsOf) -> Response:
    """Answer with all workers."""
    return json_response({"workers": [worker_record(worker) for worker in await parts.store.workers()]})


@router.get(
    "/task-types",
    summary="List the task types",
    description="Each task type with the JSON schema of its payload: those known here and those that workers announce.",
    response_model=TaskTypes,
    responses=problems("store_unavailable"),
)
async def list_task_types(parts: PartsOf) -> Response:
    """Answer with all task types."""
    types = await parts.types.all()
    return json_response({"task_types": [_task_type(known, types.payload_schema(known)) for known in types]})


@router.get(
    "/task-types/{name:path}",
    summary="Read a task type",
    response_model=TaskTypeInfo,
    responses=problems("task_type_not_found", "store_unavailable"),
)
async def read_task_type(name: Annotated[str, Path(description="The type's name.")], parts: PartsOf) -> Response:
    """Answer with one task type."""
    types = await parts.types.containing(name)
    known = types.get(name)
    if known is None:
        raise TaskTypeNotFoundError(name)
    return json_response(_task_type(known, types.payload_schema(known)))


def group_record(parts: Parts, stats: GroupStats) -> dict[str, Any]:
    """Return a group as every route writes it."""
    return {
        "name": stats.name,
        "waiting": stats.waiting,
        "running": stats.running,
        "workers": stats.workers,
        "max_queue_length": parts.settings.queue_limit(stats.name),
    }


def _task_type(known: TaskType, payload_schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": known.name,
        "description": known.description,
        "queue": known.group,
        "max_retries": known.retry.max_retries,
        "timeout_s": None if known.timeout_s is None else plain_number(known.timeout_s),
        "payload_schema": payload_schema,
    }
