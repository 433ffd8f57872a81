"""Settings of the dashboard."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section


class PagesSettings(Section):
    """The dashboard and the stream that feeds it."""

    #: Pause between two looks at what changed, while somebody watches.
    live_interval: Duration = Field(0.4, ge=0.05)
    #: Changed tasks that are told at once, the newest; how many were left out is told with them.
    live_tasks: int = Field(100, ge=1, le=1000)
    #: Browsers that one API process serves live; further ones are refused and try again.
    live_watchers: int = Field(500, ge=1)
