"""A platform whose commands are run both ways: straight on its store and database, and through its API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from celeriac.access.principal import Scope
from celeriac.history.recorder import Recorder
from celeriac.model import Claim, Failure, LogLine, Progress, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.watched_api import api
from tests.kit.command_line import celeriac
from tests.kit.history import forget, record_all, recording
from tests.kit.tokens import token_of

SECRET: Final = "0123456789abcdef0123456789abcdef"
#: Ids of tasks. Two begin alike, and one is the beginning of another.
FAILED: Final = "11111111-1111-4111-8111-111111111111"
GONE: Final = "22222222-2222-4222-8222-222222222222"
TWIN: Final = "22222222-3333-4333-8333-333333333333"
FRESH: Final = "44444444-4444-4444-8444-444444444444"
ORDER: Final = "order-1"
LONGER: Final = "order-17"
DONE: Final = "55555555-5555-4555-8555-555555555555"
WAITING: Final = "66666666-6666-4666-8666-666666666666"

Said = tuple[int, str, str]


@dataclass(frozen=True)
class World:
    """A running platform with a few tasks."""

    folder: Path
    url: str
    token: str
    direct_environ: dict[str, str]
    store: TaskStore
    recorder: Recorder

    async def directly(self, *words: str, stdin: str | None = None) -> Said:
        """Run a command on the store and the database."""
        return await celeriac(*words, stdin=stdin, cwd=self.folder, **self.direct_environ)

    async def over_http(self, *words: str, stdin: str | None = None) -> Said:
        """Run it through the API: no store and no database is named."""
        environ = {"CELERIAC_URL": self.url, "CELERIAC_TOKEN": self.token, "CELERIAC_DATA_DIR": "nothing-here"}
        return await celeriac(*words, stdin=stdin, cwd=self.folder, **environ)

    async def both(self, *words: str, stdin: str | None = None) -> tuple[Said, Said]:
        """Run it both ways at once: for commands that change nothing."""
        direct, remote = await asyncio.gather(self.directly(*words, stdin=stdin), self.over_http(*words, stdin=stdin))
        return direct, remote

    async def record(self) -> None:
        """Let the history have what has happened."""
        await record_all(self.recorder, self.store)


@asynccontextmanager
async def world(store: TaskStore, valkey_url: str, folder: Path) -> AsyncIterator[World]:
    """Yield a platform with authentication, one task of each kind of place, and an API in a process of its own."""
    settings = Settings.model_validate({"redis_url": valkey_url, "access": {"jwt_secret": SECRET}})
    database = f"sqlite:///{folder / 'history.db'}"
    with api(valkey_url, folder, JWT_SECRET=SECRET) as (port, _):
        async with recording(store, database, settings) as (recorder, _):
            made = World(
                folder=folder,
                url=f"http://127.0.0.1:{port}",
                token=token_of(settings, user_id="ops", scopes=[Scope.ADMIN]),
                direct_environ={"REDIS_URL": valkey_url, "DATABASE_URL": database, "JWT_SECRET": SECRET},
                store=store,
                recorder=recorder,
            )
            await _fill(made)
            yield made


async def _fill(made: World) -> None:
    store = made.store
    await store.announce_types({"shout": {"group": "loud", "schema": {"type": "object"}, "description": "Shout."}})
    await _failed(store, FAILED, group="loud", tags=("red",))
    await _failed(store, GONE, user_id="ann")
    await _failed(store, TWIN)
    claim = await _claimed(store, DONE)
    await store.progress(claim, 1, Progress(40, "load", "page 4", 1))
    await store.complete(claim, '{"n": 1}')
    for task_id in (ORDER, LONGER):
        await store.submit(Submission(task_id, "shout", group="loud"))
    await made.record()
    await forget(store, GONE)
    for number, task_id in enumerate((WAITING, WAITING.replace("6", "7")), 1):
        awaits = {"signal": "approval", "title": f"Refund {number} €", "timeout_ms": number * 86_400_000}
        await store.submit(Submission(task_id, "wait", awaits=awaits))
    await stay(store, "w-celery")
    await stay(store, "w-remote", kind="remote", drains="0")
    # The history does not know this one yet.
    await store.submit(Submission(FRESH, "shout", group="loud"))


async def stay(store: TaskStore, worker: str, **facts: str) -> None:
    """Let a worker be there that says nothing more: Celery's, unless `facts` say otherwise."""
    told = {"kind": "celery", "host": "here", "pid": "7", "groups": "loud", "concurrency": "4", "started_ms": "9000"}
    told |= {"seen_ms": "9000", "running": "1", "drains": "1", "ended_per_minute": "2.5", "memory_bytes": "99000000"}
    await store.read(
        ("HSET", keys.worker(worker), *(part for pair in (told | facts).items() for part in pair)),
        ("ZADD", keys.WORKERS, 2**42, worker),
    )


async def _failed(store: TaskStore, task_id: str, **fields: object) -> None:
    claim = await _claimed(store, task_id, **fields)
    await store.log(claim, 1, LogLine("info", "shouting", {"page": 3}))
    await store.log(claim, 2, LogLine("error", "too loud", {"traceback": "Traceback\n  in a file"}))
    await store.fail(claim, Failure("hoarse", "no voice left", retryable=False), 0)


async def _claimed(store: TaskStore, task_id: str, **fields: object) -> Claim:
    await store.submit(Submission(**{"task_id": task_id, "type": "shout", "max_retries": 0, **fields}))  # type: ignore[arg-type]
    claim = await store.claim(task_id, worker="w-1")
    assert isinstance(claim, Claim)
    return claim


_CHANGING: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"\b\d{13}-\d+\b"), "EVENT"),
    (re.compile(r"\b\d{13}\b"), "MS"),
    (re.compile(r"cel_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"), "KEY"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "KEY_ID"),
)


def without_chance(said: Said) -> Said:
    """Return what a command said with a word in place of each id and moment that differs from one run to the next."""
    code, *texts = said
    for pattern, word in _CHANGING:
        texts = [pattern.sub(word, text) for text in texts]
    return code, texts[0], texts[1]
