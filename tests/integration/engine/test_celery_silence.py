"""A store that is reachable and says nothing, as behind a connection that a router has forgotten."""

from __future__ import annotations

import asyncio
import socket

import pytest
from kombu.exceptions import OperationalError

from celeriac.settings import Settings
from celeriac_tasks.engine.app import create_app


@pytest.mark.timeout(60)
async def test_a_silent_server_does_not_hold_celerys_thread_for_ever() -> None:
    """That thread also notices dead connections: held by one, it would notice nothing any more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = create_app(Settings(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        with app.connection_for_write() as connection, pytest.raises(OperationalError, match="Timeout"):
            await asyncio.to_thread(lambda: connection.default_channel)
