"""Settings of the dashboard."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section


class PagesSettings(Section):
    """The dashboard and the event stream that keeps it current."""

    live_interval: Duration = Field(
        0.4,
        ge=0.05,
        description=(
            "How often the dashboard is updated while somebody watches it. A longer interval costs the API process "
            "less."
        ),
    )
    live_tasks: int = Field(
        100,
        ge=1,
        le=1000,
        description=(
            "How many changed tasks one update of the dashboard shows, the newest ones. It tells how many more changed."
        ),
    )
    live_watchers: int = Field(
        500,
        ge=1,
        description=(
            "How many browsers one API process keeps current. Further ones are answered 503 and try again by "
            "themselves."
        ),
    )
    live_watchers_per_user: int = Field(
        50,
        ge=1,
        description=(
            "How many of them one user or key may have. Without authentication, all callers together have "
            "`pages.live_watchers`."
        ),
    )
    live_watchers_for_admins: int = Field(
        10,
        ge=0,
        description="How many of them are kept for admins, so that users cannot take all places.",
    )
    counted_tasks: int = Field(
        20_000,
        ge=100,
        le=1_000_000,
        description=(
            "How many tasks the counts and the histogram above a list of tasks count at most, the newest ones. They "
            "say if there are more. A higher number makes them slower."
        ),
    )
