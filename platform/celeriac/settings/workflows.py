"""Settings of workflows."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Section


class WorkflowSettings(Section):
    """Graphs of tasks that depend on each other."""

    max_nodes: int = Field(
        10_000,
        ge=1,
        le=100_000,
        description=(
            "How many nodes one workflow may have, those included that are added to it or spawned by its tasks. A "
            "single request may bring 1,000. Beyond it, a submission is answered 422."
        ),
    )
    max_edges: int = Field(
        20_000,
        ge=1,
        description=(
            "How many dependencies the nodes of one request may have in all. Beyond it, the request is answered 422."
        ),
    )
    max_events: int = Field(
        50_000,
        ge=1000,
        description="At least this many changes of a workflow's nodes are kept in Redis; older ones are deleted.",
    )
