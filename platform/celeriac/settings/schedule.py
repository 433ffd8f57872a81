"""Settings of definitions: how they are fired, and their limits."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section


class ScheduleSettings(Section):
    """Definitions, and the beat that fires them."""

    tick: Duration = Field(
        0.5,
        ge=0.01,
        le=60,
        description=(
            "The longest pause between two looks for due definitions. A definition that was just made may fire for the "
            "first time up to this much late."
        ),
    )
    batch: int = Field(500, ge=1, le=10_000, description="How many definitions are fired in one transaction.")
    misfire_grace: Duration = Field(
        60.0,
        ge=0,
        description=(
            "How late the first due slot of a definition may be for all its due slots to run. If it is later, the "
            "definition's `misfire` decides. Also how long an instance is submitted again and again while its group is "
            "full. A definition may have its own."
        ),
    )
    catchup_window: Duration = Field(
        86400.0,
        ge=0,
        description=(
            "How far back a definition with `misfire: fire_all` catches up; older slots are skipped. A definition may "
            "have its own."
        ),
    )
    min_interval: float = Field(
        0.1,
        ge=0.001,
        description="The shortest `interval` in seconds that a definition may have; a shorter one is refused.",
    )
    max_rules: int = Field(
        50, ge=1, le=1000, description="How many `rules` a definition may have, and how many entries of `exclude`."
    )
    max_cron_length: int = Field(
        250, ge=20, le=10_000, description="How many characters a cron expression may have; a longer one is refused."
    )
    max_steps: int = Field(
        20_000,
        ge=100,
        le=10_000_000,
        description=(
            "How many looks at a rule or an exclusion it may take to find the next moment of a definition. A trigger "
            "that needs more is refused. A stored definition that comes to need more is paused, with a note."
        ),
    )
    max_compute: Duration = Field(
        0.05,
        ge=0.001,
        le=60,
        description="The same limit as processor time: how long it may take to find the next moment of a definition.",
    )
    max_buffered: int = Field(
        1000,
        ge=1,
        le=100_000,
        description=(
            "How many instances of one definition may wait for an earlier one to end (`overlap: queue_all`). Slots "
            "beyond it are skipped."
        ),
    )
    max_backfill: int = Field(
        1000, ge=1, le=100_000, description="How many slots one back-fill may have; one with more is refused."
    )
    takeover: Duration = Field(
        3.0,
        ge=0.1,
        description=(
            "How long after a beat has planned an instance another beat submits it, if the first one did not. Lower it "
            "to recover faster from a beat that died."
        ),
    )
    code_grace: Duration = Field(
        30.0,
        ge=0,
        description=(
            "How long after the last worker that knows a task type a definition of `@task(schedule=...)` is cancelled, "
            "while other workers serve its group. While no worker serves the group, it is kept."
        ),
    )
    content_type: str = Field(
        "remote", min_length=1, description="The task type of instances whose definition has no `task`."
    )
    retention: Duration = Field(
        30 * 86400.0,
        description=(
            "How long a definition is kept after its end, and how long the entries of audit trails of definitions are "
            "kept."
        ),
    )
