"""A server's API as a platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from celeriac.cli.reach.http.calls import Server
from celeriac.cli.reach.http.definitions import HttpDefinitions
from celeriac.cli.reach.http.groups import HttpGroups
from celeriac.cli.reach.http.limits import HttpLimits
from celeriac.cli.reach.http.operators import HttpOperators
from celeriac.cli.reach.http.tasks import HttpTasks
from celeriac.cli.reach.http.workflows import HttpWorkflows
from celeriac.client.address import Address


class HttpPlatform:
    """The platform behind an API; see `AnyPlatform`."""

    def __init__(self, server: Server) -> None:
        self.tasks = HttpTasks(server)
        self.workflows = HttpWorkflows(server)
        self.groups = HttpGroups(server)
        self.limits = HttpLimits(server)
        self.definitions = HttpDefinitions(server)
        self.operators = HttpOperators(server)


@asynccontextmanager
async def opened_over_http(address: Address) -> AsyncIterator[HttpPlatform]:
    """Yield the platform at `address`; it connects when it is used, and disconnects at the end."""
    server = Server(address)
    try:
        yield HttpPlatform(server)
    finally:
        await server.close()
