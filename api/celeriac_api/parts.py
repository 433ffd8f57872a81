"""What the routes work with: the parts of one running application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from celeriac.access.authenticator import Authenticator
from celeriac.errors import LedgerMissingError
from celeriac.files.intake import FileIntake
from celeriac.history.history import Ledger
from celeriac.schedules.service import TaskControl
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.activity import ActivityFeed
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.user_feeds import UserFeeds
from celeriac.tasks.catalog import TypeCatalog
from celeriac_api.access.checking import CredentialCheck
from celeriac_api.gateway.gateway import Gateway
from celeriac_api.notifications.connections import Connections


@dataclass(frozen=True, slots=True)
class Parts:
    """The collaborators of all routes; they live as long as the application runs."""

    settings: Settings
    store: TaskStore
    hub: LiveHub
    activity: ActivityFeed
    feeds: UserFeeds
    #: WebSockets that are open.
    connections: Connections
    types: TypeCatalog
    files: FileIntake
    #: The remote workers that are connected to this process.
    gateway: Gateway
    #: From a credential to its principal.
    authenticator: Authenticator
    #: The same for callers, whose addresses it counts refusals of.
    credentials: CredentialCheck
    #: None where no database is configured.
    ledger: Ledger | None = None
    #: None where no database is configured.
    definitions: TaskControl | None = None

    @property
    def control(self) -> TaskControl:
        """Task control; raises `LedgerMissingError` where there is no database."""
        if self.definitions is None:
            raise LedgerMissingError("definitions need a database: set DATABASE_URL, and run `celeriac migrate`")
        return self.definitions

    @property
    def history(self) -> Ledger:
        """The ledger; raises `LedgerMissingError` where there is none."""
        if self.ledger is None:
            raise LedgerMissingError("no history is kept here: set DATABASE_URL, and run `celeriac migrate`")
        return self.ledger


async def parts_of(request: Request) -> Parts:
    """Return the parts of the application that serves `request`."""
    parts: Parts = request.app.state.parts
    return parts


#: A route's parameter of this type gets the parts.
PartsOf = Annotated[Parts, Depends(parts_of)]
