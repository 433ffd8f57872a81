"""Settings of limits."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section


class LimitSettings(Section):
    """Rules that limit tasks by group, type, key and user."""

    max_rules: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="How many rules there may be, the limits of groups included. Beyond it, a new one is answered 409.",
    )
    max_retry_after: Duration = Field(
        86400.0,
        gt=0,
        description="For how long `RateLimited` may close a key or a group. A longer `retry_after` is cut to this.",
    )
