"""The task types: those of this process and those that workers announce."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import Response

from celeriac.tasks.catalog import type_record, type_records
from celeriac_api.access.rights import READ
from celeriac_api.http.problems import TaskTypeNotFoundError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import TaskTypeInfo, TaskTypes
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["operations"])


@router.get(
    "/task-types",
    access=READ,
    summary="List the task types",
    description="Each task type with the JSON schema of its payload: those known here and those that workers announce.",
    response_model=TaskTypes,
    responses=problems("store_unavailable"),
)
async def list_task_types(parts: PartsOf) -> Response:
    """Answer with all task types."""
    types = await parts.tasks.types.all()
    return json_response({"task_types": type_records(types)})


@router.get(
    "/task-types/{name:path}",
    access=READ,
    summary="Read a task type",
    description="One task type with the JSON schema of its payload.",
    response_model=TaskTypeInfo,
    responses=problems("task_type_not_found", "store_unavailable"),
)
async def read_task_type(
    name: Annotated[str, Path(description="The type's name.", examples=["grpc_task"])], parts: PartsOf
) -> Response:
    """Answer with one task type."""
    types = await parts.tasks.types.containing(name)
    known = types.get(name)
    if known is None:
        raise TaskTypeNotFoundError(name)
    return json_response(type_record(known, types.payload_schema(known)))
