"""The worker groups: read, pause, resume and limit them."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from celeriac.groups.record import group_record
from celeriac.limits.rules import MAX_RUNNING, StartRate
from celeriac_api.access.rights import ADMIN, READ
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import Group, Groups
from celeriac_api.parts import PartsOf
from celeriac_api.routes.rates import RateText
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["operations"])

GroupName = Annotated[str, Path(description="The group's name.", examples=["default"])]


@router.get(
    "/groups",
    access=READ,
    summary="List the groups",
    description="Each worker group with its waiting and running tasks and the workers that serve it. If there "
    "are more than a thousand, configured, paused and limited groups come first, and `left_out` counts the rest.",
    response_model=Groups,
    responses=problems("store_unavailable"),
)
async def list_groups(parts: PartsOf) -> Response:
    """Answer with all groups: those that had tasks, and those in the configuration."""
    found, left_out = await parts.groups.listed()
    document = {"groups": [group_record(group, parts.groups.queues) for group in found]}
    return json_response(document | ({"left_out": left_out} if left_out else {}))


class PauseRequest(BaseModel):
    """Why a group is paused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "the bank is down"}]})

    note: Annotated[str | None, Field(max_length=500, description="A note for other operators.")] = None


@router.post(
    "/groups/{name:path}/pause",
    access=ADMIN.audited("group.pause"),
    summary="Pause a group",
    description="Its tasks are accepted and wait. Running tasks go on. Pausing a paused group replaces the note.",
    response_model=Group,
    responses=problems(
        "malformed_json", "group_not_found", "unsupported_media_type", "invalid_request", "store_unavailable"
    ),
)
async def pause_group(name: GroupName, parts: PartsOf, wanted: PauseRequest | None = None) -> Response:
    """Pause and answer with the group."""
    await parts.groups.pause(name, (wanted.note if wanted is not None else None) or "")
    return json_response(group_record(await parts.groups.get(name), parts.groups.queues))


@router.post(
    "/groups/{name:path}/resume",
    access=ADMIN.audited("group.resume"),
    summary="Resume a group",
    description="Waiting tasks go to its workers, in order. Resuming a group that is not paused changes nothing.",
    response_model=Group,
    responses=problems("group_not_found", "store_unavailable"),
)
async def resume_group(name: GroupName, parts: PartsOf) -> Response:
    """Resume and answer with the group."""
    await parts.groups.resume(name)
    return json_response(group_record(await parts.groups.get(name), parts.groups.queues))


class LimitsRequest(BaseModel):
    """The limits of a group across all its workers: one of the two or both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"max_running": 5}, {"rate": "100/m"}, {"max_running": 5, "rate": "10/s", "note": "as agreed"}]
        },
    )

    max_running: Annotated[
        int | None,
        Field(strict=True, ge=1, le=MAX_RUNNING, description="Tasks that run at once; `null` means any number."),
    ] = None
    rate: Annotated[
        RateText | None,
        Field(
            description="Most starts within any second (`5/s`), minute (`100/m`), hour (`10/h`) or day (`1/d`), spread"
            " over it; `null` means any number.",
            json_schema_extra={"pattern": "^[1-9][0-9]{0,8}/[smhd]$"},
        ),
    ] = None
    note: Annotated[str | None, Field(max_length=500, description="A note for other operators.")] = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.max_running is None and self.rate is None:
            raise ValueError("give max_running, rate or both; DELETE removes the limits")
        return self


@router.put(
    "/groups/{name:path}/limits",
    access=ADMIN.audited("group.limit"),
    summary="Limit a group",
    description="Limits how many tasks of the group run at once and how many start per time, whatever the number of "
    "its workers. Replaces the limits that the group had. Running tasks go on; tasks above a limit wait.",
    response_model=Group,
    responses=problems("group_not_found", "too_many_rules", "invalid_request", "store_unavailable"),
)
async def limit_group(name: GroupName, parts: PartsOf, wanted: LimitsRequest) -> Response:
    """Limit and answer with the group."""
    rate = None if wanted.rate is None else StartRate.parse(wanted.rate)
    await parts.groups.limit(name, max_running=wanted.max_running, rate=rate, note=wanted.note or "")
    return json_response(group_record(await parts.groups.get(name), parts.groups.queues))


@router.delete(
    "/groups/{name:path}/limits",
    access=ADMIN.audited("group.unlimit"),
    summary="Remove a group's limits",
    description="Waiting tasks go to the workers of the group, in order. For a group without limits nothing changes.",
    response_model=Group,
    responses=problems("group_not_found", "store_unavailable"),
)
async def unlimit_group(name: GroupName, parts: PartsOf) -> Response:
    """Remove the limits and answer with the group."""
    await parts.groups.unlimit(name)
    return json_response(group_record(await parts.groups.get(name), parts.groups.queues))


@router.get(
    "/groups/{name:path}",
    access=READ,
    summary="Read a group",
    description="The present state of a group that had tasks, has workers or is in the configuration.",
    response_model=Group,
    responses=problems("group_not_found", "store_unavailable"),
)
async def read_group(name: GroupName, parts: PartsOf) -> Response:
    """Answer with one group."""
    return json_response(group_record(await parts.groups.get(name), parts.groups.queues))
