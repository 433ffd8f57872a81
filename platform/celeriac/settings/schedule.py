"""Settings of definitions: how they are fired, and their limits."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section


class ScheduleSettings(Section):
    """Definitions and the beat that fires them."""

    #: Longest pause between two looks for what is due: how late a definition may fire for the first time.
    tick: Duration = Field(0.5, ge=0.01, le=60)
    #: Definitions that are fired in one transaction.
    batch: int = Field(500, ge=1, le=10_000)
    #: How late the first due slot may be for all of them to count as on time; beyond it `misfire` decides.
    misfire_grace: Duration = Field(60.0, ge=0)
    #: How far back `fire_all` goes.
    catchup_window: Duration = Field(86400.0, ge=0)
    #: Least interval between two runs (seconds).
    min_interval: float = Field(0.1, ge=0.001)
    #: Instances of one definition that may wait for an earlier one (`overlap: queue_all`), or to be submitted.
    max_buffered: int = Field(1000, ge=1, le=100_000)
    #: Most slots of one back-fill.
    max_backfill: int = Field(1000, ge=1, le=100_000)
    #: Firings that a beat wrote down and did not submit within this time are submitted by another one.
    takeover: Duration = Field(3.0, ge=0.1)
    #: The task type of instances whose definition names no `task`.
    content_type: str = Field("remote", min_length=1)
    #: How long a definition that has ended is kept, and entries of audit trails.
    retention: Duration = 30 * 86400.0
