"""Task control from plain Python: `from celeriac import task_control_service, TaskTriggerType`.

Its methods are synchronous and may be called from any thread. It talks to the stores themselves, not to
the API, and connects when it is first used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celeriac.installation.discovery import import_from_here, joined_settings
from celeriac.schedules.definition import TaskTriggerType
from celeriac.settings import Settings
from celeriac.threads.forking import call_after_fork, keep_inherited
from celeriac.threads.loop_thread import LoopThread

if TYPE_CHECKING:
    from celeriac.schedules.service import Schedules

T = TypeVar("T")

#: The actor in the audit trail.
_ACTOR: Final = "python"


class TaskControlService:
    """The service of definitions, synchronous.

    It finds the stores by `REDIS_URL` and `DATABASE_URL`, or by the data folder and the configuration of a running
    `celeriac up` (`CELERIAC_DATA_DIR`, `CELERIAC_CONFIG`, else the defaults in the current folder). A forked child
    connects anew. Raises `DefinitionNotFoundError`, `IllegalDefinitionMoveError`, and `InvalidSubmissionError` that
    names the fields.
    """

    def __init__(self, *, data_dir: str | Path | None = None, config: str | Path | None = None) -> None:
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._config = None if config is None else Path(config)
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        call_after_fork(self)

    def create_task(
        self,
        *,
        user_id: int | str,
        content: str | None = None,
        trigger_type: TaskTriggerType | str,
        trigger_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Store a definition and return its id; `options` are the further fields of `POST /tasks`.

        An `IMMEDIATE` definition runs at once.
        """
        document = {
            "user_id": user_id,
            "content": content,
            "trigger_type": trigger_type,
            "trigger_args": None if trigger_args is None else dict(trigger_args),
            **options,
        }
        seen, _ = self._call(lambda schedules: schedules.create(document, actor=_ACTOR))
        return seen.definition.definition_id

    def pause_schedule(self, task_def_id: str, note: str | None = None) -> dict[str, Any]:
        """Stop firing; returns the definition."""
        return self._shown(lambda schedules: schedules.pause(task_def_id, actor=_ACTOR, note=note))

    def resume_schedule(self, task_def_id: str, note: str | None = None) -> dict[str, Any]:
        """Fire again, from the next slot on; returns the definition."""
        return self._shown(lambda schedules: schedules.resume(task_def_id, actor=_ACTOR, note=note))

    def cancel_task(self, task_def_id: str, note: str | None = None) -> dict[str, Any]:
        """End a definition for good, and cancel its instances; returns the definition."""
        return self._shown(lambda schedules: schedules.cancel(task_def_id, actor=_ACTOR, note=note))

    def trigger_immediately(self, task_def_id: str) -> str:
        """Run one instance now, independent of the schedule; returns its task id."""
        return self._call(lambda schedules: schedules.trigger(task_def_id, actor=_ACTOR)).task_id

    def get_task_definition(self, task_def_id: str) -> dict[str, Any]:
        """Return the definition, with `status`, `next_run_at` and `last_outcome`."""
        return self._shown(lambda schedules: schedules.get(task_def_id))

    def get_task_instances(
        self, task_def_id: str, *, limit: int = 500, cursor: str | None = None
    ) -> list[dict[str, Any]]:
        """Return up to `limit` instances, the newest first."""
        from celeriac.schedules.record import instance_record

        tasks, _ = self._call(lambda schedules: schedules.instances(task_def_id, limit=limit, cursor=cursor))
        return [instance_record(task, task_def_id) for task in tasks]

    def get_user_tasks(self, user_id: int | str, *, limit: int = 500) -> list[dict[str, Any]]:
        """Return up to `limit` definitions of a user, the newest first."""
        from celeriac.schedules.record import definition_record

        async def work(schedules: Schedules) -> list[dict[str, Any]]:
            page = await schedules.definitions.find(user_id=str(user_id), limit=limit)
            return [definition_record(s.definition, s.status) for s in await schedules.current(page.definitions)]

        return self._call(work)

    def edit_task(self, task_def_id: str, **fields: Any) -> dict[str, Any]:
        """Change the named fields and keep the rest; returns the definition."""
        return self._shown(lambda schedules: schedules.edit(task_def_id, fields, actor=_ACTOR))

    def backfill(self, task_def_id: str, start: datetime, end: datetime, *, one_by_one: bool = False) -> list[str]:
        """Run the past slots of a range, both ends included; returns the task ids."""
        firings = self._call(
            lambda schedules: schedules.backfill(task_def_id, start, end, actor=_ACTOR, one_by_one=one_by_one)
        )
        return [firing.task_id for firing in firings]

    def close(self) -> None:
        """Disconnect; the next call connects again. Idempotent."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _shown(self, work: Callable[[Schedules], Coroutine[Any, Any, Any]]) -> dict[str, Any]:
        from celeriac.schedules.record import definition_record

        seen = self._call(work)
        return definition_record(seen.definition, seen.status)

    def _call(self, work: Callable[[Schedules], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            if self._connection is None:
                self._connection = _Connection(*self._found())
            connection = self._connection
        return connection.call(work)

    def _found(self) -> tuple[Settings, str]:
        import_from_here()
        return joined_settings(self._config, self._data_dir)

    def after_fork(self) -> None:
        """Start anew in a forked child."""
        keep_inherited(self._connection)
        self._lock = threading.Lock()
        self._connection = None


class _Connection:
    """The service of definitions on an event loop in a thread."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._thread = LoopThread("task-control")
        self._thread.start()
        self._open = AsyncExitStack()
        try:
            self._control = self._thread.wait(self._connect(settings, url))
        except BaseException:
            self._thread.stop()
            raise

    def call(self, work: Callable[[Schedules], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine of the service and wait for it."""
        return self._thread.wait(work(self._control))

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._thread.wait(self._open.aclose())
        self._thread.stop()

    async def _connect(self, settings: Settings, url: str) -> Schedules:
        # Here, so that `import celeriac` does not import SQLAlchemy.
        from celeriac.schedules.connection import connected_schedules

        return await self._open.enter_async_context(connected_schedules(settings, url))


#: The service of this process.
task_control_service: Final = TaskControlService()
