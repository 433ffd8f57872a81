"""How a request that waits hears that its client has hung up, without a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope

#: The key in a request's scope for the server's function behind `at_hangup`.
HANGUP: Final = "celeriac.at_hangup"


def at_hangup(scope: Scope, receive: Receive, call: Callable[[], object]) -> Callable[[], object]:
    """Call `call` when the client hangs up before it was answered; returns what calls that off.

    The body has been read. A server that does not offer this is asked by a task.
    """
    offered: Callable[[Callable[[], object]], Callable[[], object]] | None = scope.get(HANGUP)
    if offered is not None:
        return offered(call)
    waiting = asyncio.get_running_loop().create_task(_until_disconnected(receive))
    waiting.add_done_callback(lambda done: None if done.cancelled() else call())
    return waiting.cancel


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
