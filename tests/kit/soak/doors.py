"""A door of the load: it knocks at its own pace, a bounded number of times at once, and writes down each answer."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from tests.kit.soak.ledger import Ledger

#: The groups of Celery workers.
GROUPS = ("default", "g1", "g2", "g3")
#: The users whose feeds are followed.
USERS = ("1", "2", "3")
#: So many attempts that no number of dead workers makes a task fail.
MANY = 60
#: The most requests of one door that wait for an answer at once.
_AT_ONCE = 12
#: Answers that refuse a request clearly, when something is away or full.
_CLEAR = (429, 503, 507)


class Knocker:
    """What all doors share: the API processes, the ledger, and chance."""

    def __init__(self, urls: list[str], ledger: Ledger, chance: random.Random) -> None:
        self.ledger = ledger
        self.chance = chance
        self._clients = [httpx.AsyncClient(base_url=url, timeout=30) for url in urls]
        self._turn = itertools.count()
        self.stopped = asyncio.Event()

    def client(self) -> httpx.AsyncClient:
        """Return the client of the next API process."""
        return self._clients[next(self._turn) % len(self._clients)]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    async def ask(self, door: str, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Ask one API process; return an answer that is neither a clear refusal nor an error of the server."""
        try:
            answer = await self.client().request(method, path, **options)
        except httpx.HTTPError:
            self.ledger.unanswered[door] += 1
            return None
        if answer.status_code in _CLEAR:
            self.ledger.refused[door, str(answer.status_code)] += 1
            return None
        if answer.status_code >= 500:
            self.ledger.fault("server error", f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        return answer

    async def insist(self, door: str, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Ask until an API process answers; the request must be safe to repeat. Gives up after two minutes."""
        for _ in range(60):
            if (answer := await self.ask(door, method, path, **options)) is not None:
                return answer
            await asyncio.sleep(2)
        self.ledger.refused[door, "given up"] += 1
        return None

    def refuse(self, door: str, answer: httpx.Response) -> None:
        """Count an answer that should not have been: the load sends valid requests only."""
        self.ledger.fault(f"{door} refused", f"{answer.status_code} {answer.text[:300]}")


async def knock(knocker: Knocker, once: Callable[[], Awaitable[None]], *, every_s: float) -> None:
    """Call `once` at random times, on average every `every_s` seconds, until the load is stopped."""
    running: set[asyncio.Task[None]] = set()
    while not knocker.stopped.is_set():
        if len(running) < _AT_ONCE:
            running.add(asyncio.create_task(_safely(knocker, once)))
        running -= {task for task in running if task.done()}
        try:
            async with asyncio.timeout(knocker.chance.expovariate(1 / every_s)):
                await knocker.stopped.wait()
        except TimeoutError:
            pass
    if running:
        await asyncio.wait(running, timeout=150)
    for task in running:
        task.cancel()


async def _safely(knocker: Knocker, once: Callable[[], Awaitable[None]]) -> None:
    try:
        await once()
    except Exception as exc:
        knocker.ledger.fault("the load itself failed", f"{getattr(once, '__qualname__', once)}: {exc!r}")
