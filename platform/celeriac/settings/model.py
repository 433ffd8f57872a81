"""The whole configuration as one immutable value."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from celeriac.settings.access import AccessSettings
from celeriac.settings.dispatch import DispatchSettings
from celeriac.settings.engine import (
    GroupSettings,
    LedgerSettings,
    TaskLogSettings,
    TypeSettings,
    UpSettings,
    WorkerSettings,
)
from celeriac.settings.files import FilesSettings
from celeriac.settings.grpc_services import GrpcServices
from celeriac.settings.notifications import NotificationSettings
from celeriac.settings.pages import PagesSettings
from celeriac.settings.schedule import ScheduleSettings
from celeriac.settings.values import Duration, Section, Size


class Settings(Section):
    """The whole configuration. Instances are immutable; build one with `load_settings`."""

    # --- addresses
    #: Where HTTP and gRPC listen. An address that others reach needs authentication, or `--insecure`.
    host: str = "127.0.0.1"
    #: Port of HTTP; 0 picks a free one.
    port: int = Field(8000, ge=0, le=65535)
    #: Port of gRPC; 0 picks a free one.
    grpc_port: int = Field(50050, ge=0, le=65535)
    #: What `celeriac up` keeps: the embedded store, SQLite, uploads, `run.json`.
    data_dir: Path = Path(".celeriac")
    #: Redis or Valkey; None is the embedded one of `celeriac up`.
    redis_url: str | None = None
    #: SQLite or PostgreSQL; None is a SQLite file in the data folder.
    database_url: str | None = None
    #: A Celery broker other than `redis_url`, e.g. `amqp://…`.
    broker_url: str | None = None

    # --- what runs
    #: Modules that define task types with `@task`; every process imports them.
    imports: list[str] = Field(default_factory=list)
    grpc_services: GrpcServices = GrpcServices()
    groups: dict[str, GroupSettings] = Field(default_factory=dict)
    #: By name of the task type.
    types: dict[str, TypeSettings] = Field(default_factory=dict)
    worker: WorkerSettings = WorkerSettings()
    task_log: TaskLogSettings = TaskLogSettings()
    ledger: LedgerSettings = LedgerSettings()
    files: FilesSettings = FilesSettings()
    notifications: NotificationSettings = NotificationSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    dispatch: DispatchSettings = DispatchSettings()
    up: UpSettings = UpSettings()
    pages: PagesSettings = PagesSettings()
    access: AccessSettings = AccessSettings()

    # --- reliability
    #: `everysec`: written before the answer, on disk within a second. `fsync`: on disk before the answer. A Redis or
    #: Valkey of yours with `appendfsync everysec` may answer up to 2 s before it writes while its disk is slow.
    durability: Literal["everysec", "fsync"] = "everysec"
    #: How long a running task stays its worker's without a renewal.
    lease: Duration = Field(15.0, ge=1)
    #: How long a message may be away from its queue unclaimed before it is sent again.
    hint_grace: Duration = Field(5.0, ge=0.5)
    #: How long Redis may be away before a submission is answered "unavailable".
    store_timeout: Duration = 3.0

    # --- limits
    #: Tasks that may wait in a group before a submission is refused; a group may have its own.
    max_queue_length: int = Field(100_000, ge=1)
    #: Tasks that may wait for a time.
    max_scheduled: int = Field(1_000_000, ge=1)
    #: Largest body of a request, uploads apart.
    max_body_bytes: Size = 10 * 1024**2
    #: Tasks that one batch may submit.
    max_batch: int = Field(1000, ge=1, le=10_000)
    #: Largest result of a task; a larger one fails it.
    max_result_bytes: Size = 10 * 1024**2
    #: Events kept of each task, at least; the oldest go first.
    max_task_events: int = Field(20_000, ge=1000)
    #: Entries kept in the global stream that history is recorded from.
    max_global_events: int = Field(500_000, ge=1000)

    # --- how long things are kept
    #: Record and events of a finished task.
    retention: Duration = 24 * 3600.0
    #: A finished task in the history; it counts from the task's end.
    ledger_retention: Duration = 30 * 86400.0
    #: A group in which nothing waits or runs, counted from when something last did. Then its name is forgotten until
    #: the next task comes; those of the configuration, paused ones and those that workers serve by name still show.
    group_retention: Duration = 7 * 86400.0
    #: How long an idempotency key is known.
    idempotency_ttl: Duration = 24 * 3600.0

    # --- HTTP
    #: How long an idle connection is kept open. Longer than proxies keep theirs (nginx: 60 s): who closes last meets no
    #: request that is just on its way.
    keep_alive: Duration = Field(75.0, ge=1)
    #: A comment on quiet event streams, so that proxies keep them open.
    sse_keepalive: Duration = Field(15.0, ge=0.05)

    # --- logs
    #: Least severe lines that are written.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: `console` is for people, `json` for machines; `auto` looks whether it writes to a terminal.
    log_format: Literal["auto", "console", "json"] = "auto"

    @property
    def history_url(self) -> str:
        """The database of the history: the configured one, else a SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'celeriac.db'}"

    def retention_of(self, task_type: str, own_s: float | None = None) -> float:
        """Return the seconds that a finished task of this type stays in Redis; `own_s` is what the type itself says."""
        configured = self.types.get(task_type)
        if configured is not None and configured.retention is not None:
            return configured.retention
        return self.retention if own_s is None else own_s

    def ledger_retention_of(self, task_type: str) -> float:
        """Return the seconds that history keeps a finished task of this type."""
        configured = self.types.get(task_type)
        if configured is None or configured.ledger_retention is None:
            return self.ledger_retention
        return configured.ledger_retention

    def file_roots(self) -> list[Path]:
        """Return the folders from which files may be taken, as the settings name them."""
        own = self.files.allowed_roots
        return [self.upload_folder(), Path(tempfile.gettempdir())] if own is None else own

    def upload_folder(self) -> Path:
        """Return the upload area."""
        return self.files.upload_path or self.data_dir / "uploads"

    def is_external(self, group: str) -> bool:
        """Return whether a foreign program processes the tasks of `group`, rather than our workers."""
        own = self.groups.get(group)
        return own is not None and own.processor == "external"

    def queue_limit(self, group: str, *, remote: bool = False) -> int:
        """Return how many tasks may wait in `group`; remote tasks are counted by themselves."""
        own = self.groups.get(group)
        if own is not None and own.max_queue_length is not None:
            return own.max_queue_length
        return self.dispatch.max_queue_length if remote else self.max_queue_length
