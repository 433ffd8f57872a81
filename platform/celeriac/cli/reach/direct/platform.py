"""An installation as a platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from celeriac.cli.reach.direct.groups import DirectGroups
from celeriac.cli.reach.direct.limits import DirectLimits
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.direct.operators import DirectOperators
from celeriac.cli.reach.direct.tasks import DirectTasks
from celeriac.settings import Settings

if TYPE_CHECKING:
    from celeriac.cli.reach.direct.definitions import DirectDefinitions
    from celeriac.cli.reach.direct.workflows import DirectWorkflows


class DirectPlatform:
    """The platform on a store and a database; see `AnyPlatform`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.tasks = DirectTasks(opened)
        self.groups = DirectGroups(opened)
        self.limits = DirectLimits(opened)
        self.operators = DirectOperators(opened)

    @cached_property
    def workflows(self) -> DirectWorkflows:
        """See `WorkflowCalls`."""
        # Like the definitions.
        from celeriac.cli.reach.direct.workflows import DirectWorkflows

        return DirectWorkflows(self._opened)

    @cached_property
    def definitions(self) -> DirectDefinitions:
        """See `DefinitionCalls`."""
        # Imported here, so that other commands do not import SQLAlchemy, which takes longer than they run.
        from celeriac.cli.reach.direct.definitions import DirectDefinitions

        return DirectDefinitions(self._opened)


@asynccontextmanager
async def opened_directly(settings: Settings, url: str) -> AsyncIterator[DirectPlatform]:
    """Yield the platform on the store at `url`; it connects to what is used, and disconnects at the end."""
    async with AsyncExitStack() as stack:
        yield DirectPlatform(Opened(settings, url, stack))
