"""`/metrics`, for Prometheus."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from celeriac_api.access.rights import READ
from celeriac_api.metrics import platform_text
from celeriac_api.openapi.responses import problems
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(tags=["operations"])

_EXAMPLE = """\
# HELP celeriac_queue_depth Tasks that wait in a group.
# TYPE celeriac_queue_depth gauge
celeriac_queue_depth{group="default"} 12.0
"""


@router.get(
    "/metrics",
    access=READ,
    summary="Read the metrics",
    description=(
        "In Prometheus' text format. `scope=platform`: what all processes did, counted in the store and the same at "
        "every replica. `scope=process`: this process. Without `scope`: both. Groups that are not configured are "
        "together `other`, and so are types that no process knows."
    ),
    responses={
        200: {
            "description": "The figures.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problems("invalid_request", "store_unavailable"),
    },
    response_class=Response,
)
async def read_metrics(
    parts: PartsOf,
    scope: Annotated[Literal["all", "platform", "process"], Query(description="Whose figures.")] = "all",
) -> Response:
    """Answer with the figures."""
    text = b""
    if scope != "process":
        known = await parts.tasks.types.all()
        text = await platform_text(parts.store, {*parts.settings.types, *(task_type.name for task_type in known)})
    if scope != "platform":
        text += parts.metrics.text()
    return Response(text, media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})
