"""An outbox in a database of the project."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction
from django.db.models import Count, F, Min
from django.utils import timezone
from typing_extensions import ParamSpec

from celeriac import json_text
from celeriac.calling.handle import TaskHandle
from celeriac.calling.submittable import Submittable
from celeriac.contrib.django.users import current_user_id
from celeriac.outbox.entries import OutboxEntry, entry_for_call, handle_of
from celeriac.outbox.source import CHANNEL, NOW_MS, OutboxStanding, OutboxUnavailableError, TakenRow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_APP: Final = "celeriac.contrib.django"
#: The longest time that the thread of a relay listens without looking whether it is to end (seconds).
_LISTEN_S: Final = 0.5


def submit_in(using: str, what: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
    """Submit a task of a type of Celeriac with the present transaction of the database `using`; returns its handle.

    `what` is a task type, or one with `.options(…)`. Raises `TypeError` and `InvalidSubmissionError` as `submit` does.
    """
    entry = entry_for_call(what, args, kwargs, user_id=current_user_id())
    write(entry, using)
    return handle_of(entry, what.reader())


def write(entry: OutboxEntry, using: str) -> None:
    """Write a row into the present transaction, or in one of its own if there is none."""
    _rows(using).create(task_id=entry.task_id, submission=entry.submission, created_ms=entry.created_ms)
    if connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


def find(task_id: str, using: str) -> Any | None:
    """Return the row of a task that has not been submitted yet."""
    return _rows(using).filter(task_id=task_id).first()


def outbox_databases() -> list[str]:
    """Return the databases of the project that have an outbox: the default one, and those that backends name."""
    if not apps.is_installed(_APP):
        return []
    named = [one.get("OPTIONS", {}).get("database") for one in getattr(settings, "TASKS", {}).values()]
    return list(dict.fromkeys([DEFAULT_DB_ALIAS, *(name for name in named if name in connections)]))


class DjangoOutbox:
    """The outbox of a database of the project, for one relay; its connection lives in a thread."""

    def __init__(self, alias: str) -> None:
        self.name = f"django:{alias}"
        self._alias = alias
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"outbox-{alias}")
        #: The connection of the driver that listens.
        self._listening: Any = None

    async def take(self, limit: int, lease_s: float) -> list[TakenRow]:
        """See `OutboxSource.take`."""
        return await self._in_thread(lambda: self._take(limit, lease_s))

    def _take(self, limit: int, lease_s: float) -> list[TakenRow]:
        now_ms = self._now_ms()
        free = _rows(self._alias).filter(free_ms__lte=now_ms).order_by("task_id")
        if connections[self._alias].features.has_select_for_update_skip_locked:
            with transaction.atomic(using=self._alias):
                rows = list(free.select_for_update(skip_locked=True)[:limit])
                self._lease(rows, now_ms, lease_s)
        elif rows := list(free[:limit]):
            # SQLite: a look into an empty outbox only reads, and a transaction that begins by writing waits its turn.
            with transaction.atomic(using=self._alias):
                if self._lease(rows, now_ms, lease_s) != len(rows):
                    # Another relay was faster, and nobody knows which rows it has.
                    transaction.set_rollback(True, using=self._alias)
                    return []
        return [TakenRow(row.task_id, row.submission, row.attempts + 1) for row in rows]

    def _lease(self, rows: Sequence[Any], now_ms: int, lease_s: float) -> int:
        free = _rows(self._alias).filter(task_id__in=[row.task_id for row in rows], free_ms__lte=now_ms)
        changed: int = free.update(free_ms=now_ms + round(lease_s * 1000), attempts=F("attempts") + 1) if rows else 0
        return changed

    async def remove(self, task_ids: Sequence[str]) -> None:
        """See `OutboxSource.remove`."""
        await self._in_thread(lambda: _rows(self._alias).filter(task_id__in=task_ids).delete())

    async def put_back(self, task_id: str, problem: str, pause_s: float) -> None:
        """See `OutboxSource.put_back`."""

        def put() -> None:
            free_ms = self._now_ms() + round(pause_s * 1000)
            _rows(self._alias).filter(task_id=task_id).update(free_ms=free_ms, problem=problem)

        await self._in_thread(put)

    async def standing(self) -> OutboxStanding:
        """See `OutboxSource.standing`."""

        def look() -> OutboxStanding:
            found = _rows(self._alias).aggregate(rows=Count("task_id"), oldest=Min("created_ms"))
            refused = _rows(self._alias).exclude(problem="")
            first = refused.order_by("task_id").first()
            oldest_ms = 0 if found["oldest"] is None else max(0, self._now_ms() - found["oldest"])
            return OutboxStanding(
                found["rows"],
                oldest_ms,
                0 if first is None else refused.count(),
                "" if first is None else first.problem,
            )

        return await self._in_thread(look)

    async def wait(self, timeout_s: float) -> None:
        """See `OutboxSource.wait`. PostgreSQL says when a row has come, with psycopg 3."""
        if not await self._in_thread(lambda: self._listen(min(timeout_s, _LISTEN_S))):
            await asyncio.sleep(timeout_s)

    def _listen(self, timeout_s: float) -> bool:
        """Listen for a while; returns whether this database tells of rows at all."""
        connection = connections[self._alias]
        if connection.vendor != "postgresql":
            return False
        connection.ensure_connection()
        raw = connection.connection
        if not callable(getattr(raw, "notifies", None)):
            # psycopg 2 has a list of this name.
            return False
        if self._listening is not raw:
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            # A row that came before is found by the next look.
            self._listening = raw
            return True
        with connection.wrap_database_errors:
            for _ in raw.notifies(timeout=timeout_s, stop_after=1):
                break
        return True

    async def close(self) -> None:
        """See `OutboxSource.close`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, connections[self._alias].close)
        self._thread.shutdown(wait=False)

    def _now_ms(self) -> int:
        """Return the database's own time (ms since the epoch), or this machine's where it is not known how to ask."""
        asked = NOW_MS.get(connections[self._alias].vendor)
        if asked is None:
            return round(timezone.now().timestamp() * 1000)
        with connections[self._alias].cursor() as cursor:
            cursor.execute(asked)
            return int(cursor.fetchone()[0])

    async def _in_thread(self, work: Callable[[], T]) -> T:
        def translated() -> T:
            try:
                return work()
            except (Error, OSError) as exc:
                # A connection that broke is not used again.
                connections[self._alias].close()
                raise OutboxUnavailableError(self.name, exc) from exc

        return await asyncio.get_running_loop().run_in_executor(self._thread, translated)


def _rows(using: str) -> Any:
    from celeriac.contrib.django.models import OutboxTask

    return OutboxTask.objects.using(using)


def submission_of(row: Any) -> dict[str, Any]:
    """Return the submission of a row, as JSON has it."""
    found: dict[str, Any] = json_text.read(row.submission)
    return found
