"""Settings of limits."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Section


class LimitSettings(Section):
    """Rules that limit tasks by group, type, key and user."""

    max_rules: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="How many rules there may be, the limits of groups included. Beyond it, a new one is answered 409.",
    )
