"""Limits: the rules of how many tasks of a group, a type, a key or a user run at once and start per time."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from celeriac.groups.limits import DEFAULT_KEYS, MOST_KEYS
from celeriac.groups.record import key_count_record, limit_record
from celeriac.limits.rules import MAX_NOTE, MAX_RUNNING, MAX_WAITING, By, LimitRule, SortKeys, StartRate
from celeriac_api.access.rights import ADMIN, READ
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.openapi.limit_schemas import Limit, LimitKeys, Limits
from celeriac_api.openapi.responses import location, problems
from celeriac_api.parts import PartsOf
from celeriac_api.routes.rates import RateText
from celeriac_api.routing import Router

PATH: Final = "/api/v1/limits"

router = Router(prefix=PATH, tags=["operations"])

RuleName = Annotated[
    str,
    Path(description="The rule's name; `group:NAME` is the limits of the group NAME.", examples=["customers"]),
]


class LimitRequest(BaseModel):
    """A rule as a whole: what is left out is not limited."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"group": "mail", "by": "key", "max_running": 2, "fair": True},
                {"type": "report", "by": "user", "ordered": True, "max_waiting": 100},
                {"group": "mail", "type": "invoice", "max_running": 5, "rate": "10/s", "note": "as agreed"},
            ]
        },
    )

    group: Annotated[
        str | None, Field(description="The group whose tasks it covers; with `type`, those of the type only.")
    ] = None
    type: Annotated[str | None, Field(description="The task type that it covers; `group` or `type` is required.")] = (
        None
    )
    by: Annotated[
        By,
        Field(
            description="What it counts separately: nothing (`all`), each `key`, or each `user`. A task without one is"
            " not covered then."
        ),
    ] = By.ALL
    max_running: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=MAX_RUNNING,
            description="Tasks that run at once, at most 100,000; `null` means any number.",
        ),
    ] = None
    rate: Annotated[
        RateText | None,
        Field(
            description="Most units that start within any second (`5/s`), minute (`100/m`), hour (`10/h`) or day"
            " (`1/d`), spread over it; a task is as many units as its `cost`. `null` means any number.",
            json_schema_extra={"pattern": "^[1-9][0-9]{0,8}/[smhd]$"},
        ),
    ] = None
    fair: Annotated[
        bool,
        Field(strict=True, description="Keys (or users) take turns, however much each has waiting; needs a `group`."),
    ] = False
    ordered: Annotated[
        bool,
        Field(
            strict=True,
            description="At most one task of a key (or user) runs, in the order of submission; a task that is retried"
            " holds its key.",
        ),
    ] = False
    max_waiting: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=MAX_WAITING,
            description="Most waiting tasks of one key (or user); more are refused with 429 `key_full`.",
        ),
    ] = None
    note: Annotated[str | None, Field(max_length=MAX_NOTE, description="A note for other operators.")] = None

    def rule(self, name: str) -> LimitRule:
        """Return the rule of this name."""
        return LimitRule(
            name,
            group=self.group,
            type=self.type,
            by=self.by,
            max_running=self.max_running,
            rate=None if self.rate is None else StartRate.parse(self.rate),
            fair=self.fair,
            ordered=self.ordered,
            max_waiting=self.max_waiting,
            note=self.note or "",
        )


@router.get(
    "",
    access=READ,
    summary="List the limits",
    description="Each rule with the tasks that it covers: how many wait, how many run, and how many of the waiting it"
    " holds back (`parked`). The limits of the groups are among them, as `group:NAME`.",
    response_model=Limits,
    responses=problems("store_unavailable"),
)
async def list_limits(parts: PartsOf) -> Response:
    """Answer with all rules, by name."""
    return json_response({"items": [limit_record(state) for state in await parts.limits.all()]})


@router.get(
    "/{name:path}/keys",
    access=ADMIN,
    summary="List the keys of a limit",
    description="The keys (or users) of which most tasks wait or run under the rule, the largest first. A rule that"
    " counts all tasks together has one entry, whose `key` is `null`.",
    response_model=LimitKeys,
    responses=problems("limit_not_found", "invalid_request", "store_unavailable"),
)
async def list_limit_keys(
    name: RuleName,
    parts: PartsOf,
    sort: Annotated[SortKeys, Query(description="What the largest has most of.")] = SortKeys.WAITING,
    limit: Annotated[int, Query(ge=1, le=MOST_KEYS, description="Most keys.")] = DEFAULT_KEYS,
) -> Response:
    """Answer with the largest keys."""
    found = await parts.limits.keys(name, sort=sort, limit=limit)
    return json_response({"items": [key_count_record(count) for count in found]})


@router.get(
    "/{name:path}",
    access=READ,
    summary="Read a limit",
    description="One rule, with the tasks that it covers.",
    response_model=Limit,
    responses=problems("limit_not_found", "store_unavailable"),
)
async def read_limit(name: RuleName, parts: PartsOf) -> Response:
    """Answer with one rule."""
    return json_response(limit_record(await parts.limits.get(name)))


@router.put(
    "/{name:path}",
    access=ADMIN.audited("limit.set"),
    summary="Set a limit",
    description="Replaces the whole rule. It applies to the next start: running tasks go on, also if there are more"
    " than may run from now on.",
    response_model=Limit,
    responses={
        201: {
            "description": "The rule is new.",
            "model": Limit,
            "headers": location("the rule", f"{PATH}/customers"),
        },
        **problems("too_many_rules", "invalid_submission", "invalid_request", "store_unavailable"),
    },
)
async def set_limit(name: RuleName, parts: PartsOf, wanted: LimitRequest) -> Response:
    """Set the rule and answer with it."""
    state, created = await parts.limits.set(wanted.rule(name))
    if not created:
        return json_response(limit_record(state))
    return json_response(limit_record(state), 201, {"Location": f"{PATH}/{quote(name, safe=':')}"})


@router.delete(
    "/{name:path}",
    access=ADMIN.audited("limit.delete"),
    status_code=204,
    summary="Delete a limit",
    description="What it held goes on, as far as other rules have room.",
    response_description="It is deleted.",
    responses=problems("limit_not_found", "store_unavailable"),
)
async def delete_limit(name: RuleName, parts: PartsOf) -> Response:
    """Delete the rule."""
    await parts.limits.delete(name)
    return Response(status_code=204, headers=HEADERS)
