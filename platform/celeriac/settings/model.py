"""The whole configuration as one immutable value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from celeriac.errors import SettingsError
from celeriac.settings.access import AccessSettings
from celeriac.settings.dispatch import DispatchSettings
from celeriac.settings.engine import (
    BlockedLoopSettings,
    GroupSettings,
    LedgerSettings,
    StepSettings,
    TaskLogSettings,
    TypeSettings,
    UpSettings,
    WorkerSettings,
)
from celeriac.settings.files import FilesSettings
from celeriac.settings.grpc_services import GrpcServices
from celeriac.settings.key_prefix import check_key_prefix
from celeriac.settings.limits import LimitSettings
from celeriac.settings.notifications import NotificationSettings
from celeriac.settings.outbox import OutboxSettings
from celeriac.settings.pages import PagesSettings
from celeriac.settings.retention import Retentions
from celeriac.settings.schedule import ScheduleSettings
from celeriac.settings.server import ServerSettings
from celeriac.settings.store import QueueSettings, StoreSettings
from celeriac.settings.store_address import check_store_url
from celeriac.settings.values import Duration, Names, Section, Size
from celeriac.settings.workflows import WorkflowSettings


class Settings(Section):
    """The whole configuration. Instances are immutable; build one with `load_settings`."""

    # --- addresses
    host: str = Field(
        "127.0.0.1",
        description=(
            "Address that HTTP and gRPC listen on. An address that other machines can reach needs authentication, or "
            "the option `--insecure`."
        ),
    )
    port: int = Field(8000, ge=0, le=65535, description="Port of HTTP; 0 picks a free one.")
    public_url: str | None = Field(
        None,
        description=(
            "Address under which people reach HTTP, such as `https://tasks.example.com`. Links in messages begin with "
            "it (`ctx.signal_link`). Set it for workers too. Not set: `host` and `port`."
        ),
    )
    grpc_port: int = Field(50050, ge=0, le=65535, description="Port of gRPC; 0 picks a free port too.")
    data_dir: Path = Field(
        Path(".celeriac"),
        description=(
            "Folder in which `celeriac up` keeps the embedded store, the SQLite file, uploads and `run.json`, which "
            "tells other commands where it runs."
        ),
    )
    redis_url: Annotated[str, AfterValidator(check_store_url)] | None = Field(
        None,
        description=(
            "URL of the Redis or Valkey server that holds the tasks, or with Sentinels "
            "`redis+sentinel://HOST:26379,HOST:26379/SERVICE/0`. Not set: `celeriac up` starts one of its own, and "
            "the other commands use that of the `celeriac up` that runs on the data folder."
        ),
    )
    key_prefix: Annotated[str, AfterValidator(check_key_prefix)] = Field(
        "",
        description=(
            "What each key and channel in that server begins with, such as `{celeriac}:`, in quotes. Two installations "
            "with different prefixes may share a server. With braces, all keys lie in one slot, as a managed cluster "
            "with one shard needs it. Do not change it while there are tasks."
        ),
    )
    database_url: str | None = Field(
        None,
        description=(
            "URL of the SQL database for history and schedules, SQLite or PostgreSQL. Not set: `celeriac up` uses a "
            "SQLite file in the data folder."
        ),
    )
    broker_url: str | None = Field(
        None,
        description="URL of a Celery broker other than `redis_url`, such as `amqp://…`. Not set: Redis is the broker.",
    )

    # --- what runs
    imports: Names = Field(
        default_factory=list,
        description=(
            "Python modules that define task types with `@task`, a list or one name. Every process imports them when "
            "it starts."
        ),
    )
    grpc_services: GrpcServices = GrpcServices()
    groups: dict[str, GroupSettings] = Field(
        default_factory=dict,
        description="Worker groups with settings of their own. A group need not be listed here to be used.",
    )
    types: dict[str, TypeSettings] = Field(
        default_factory=dict, description="Task types whose tasks are kept for another time than all others."
    )
    worker: WorkerSettings = WorkerSettings()
    blocked_loop: BlockedLoopSettings = BlockedLoopSettings()
    task_log: TaskLogSettings = TaskLogSettings()
    steps: StepSettings = StepSettings()
    ledger: LedgerSettings = LedgerSettings()
    files: FilesSettings = FilesSettings()
    notifications: NotificationSettings = NotificationSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    outbox: OutboxSettings = OutboxSettings()
    dispatch: DispatchSettings = DispatchSettings()
    up: UpSettings = UpSettings()
    pages: PagesSettings = PagesSettings()
    access: AccessSettings = AccessSettings()
    server: ServerSettings = ServerSettings()
    workflows: WorkflowSettings = WorkflowSettings()
    limits: LimitSettings = LimitSettings()

    # --- reliability
    durability: Literal["everysec", "fsync", "replicated"] = Field(
        "everysec",
        description=(
            "When a task counts as accepted. `everysec`: it is written before the answer and on disk within a "
            "second. `fsync`: it is on disk before the answer, which takes longer. Your own Redis or Valkey with "
            "`appendfsync everysec` may answer up to 2 s before it writes if its disk is slow. `replicated`: replicas "
            "have it before the answer, and so it is with claims and ends (docs/high-availability.md)."
        ),
    )
    durability_replicas: int = Field(
        1,
        ge=1,
        le=100,
        description="How many replicas must have a submission, a claim or an end before it is answered, with "
        "`durability: replicated`.",
    )
    durability_failover: Duration = Field(
        10.0,
        ge=0,
        le=3600,
        description=(
            "How long a failover takes at most, from the moment when a replica leaves the primary to be promoted until "
            "the Sentinels have told the old primary. For so long after a replica has gone, nothing is answered as "
            "replicated. 0: never wait for that."
        ),
    )
    durability_timeout: Duration = Field(
        2.0,
        ge=0.01,
        le=60,
        description=(
            "How long one try waits for these replicas. It is tried again within `store_timeout`; then a submission "
            "is answered 503 with its `task_id`."
        ),
    )
    lease: Duration = Field(
        15.0,
        ge=1,
        description=(
            "How long a running task still belongs to its worker after the worker last renewed its lease. Then the "
            "task goes to another worker, or fails if it has no attempts left. A shorter lease notices dead workers "
            "sooner; a longer one forgives longer interruptions."
        ),
    )
    hint_grace: Duration = Field(
        5.0,
        ge=0.5,
        description=(
            "How long the message that announces a task may have left its queue without a worker claiming the task. "
            "Then the message counts as lost and is sent again."
        ),
    )
    tell_within: Duration = Field(
        86_400.0,
        ge=1,
        description=(
            "How long workers try to tell Celery how a task ended of which no worker told it: one that was cancelled "
            "while it waited, that expired or was lost with its worker. Celery stores the result, and its chord, chain "
            "and errbacks go on. After this time they give up."
        ),
    )
    tell_lease: Duration = Field(
        60.0,
        ge=1,
        description=(
            "How long one worker has time for that. Then another one does it again, because the first one may be dead. "
            "Keep it above 30 s: for about that long Celery's Redis backend lets nobody else publish the body of a "
            "chord that a worker has begun to publish."
        ),
    )
    store_timeout: Duration = Field(
        3.0,
        description=(
            "How long a call waits for Redis to come back before it fails. A submission is then answered 503."
        ),
    )

    umask: str = Field(
        "077",
        pattern="^0?[0-7]{3}$",
        description=(
            "Permissions that files and folders of the platform do not have, as in the shell's `umask`, in quotes in a "
            "file. `027` lets the user's group read the files of tasks. Programs of `up.processes` are not affected."
        ),
    )

    # --- limits
    max_queue_length: int = Field(
        100_000,
        ge=1,
        description=(
            "How many tasks may wait in one group. Beyond it, submissions are answered 429. "
            "`groups.NAME.max_queue_length` takes precedence; remote tasks have `dispatch.max_queue_length`."
        ),
    )
    max_groups: int = Field(
        1000,
        ge=1,
        description=(
            "How many groups may exist because users named them in a submission. Beyond it, a submission that "
            "would make another one is answered 429. Admins, `.delay()`, configured groups and groups that a worker "
            "serves by name need no room."
        ),
    )
    max_user_groups: int = Field(
        100,
        ge=1,
        description=(
            "How many of these groups one user may have made. A group counts until its name is forgotten "
            "(`group_retention`)."
        ),
    )
    max_scheduled: int = Field(
        1_000_000,
        ge=1,
        description=(
            "How many tasks of all groups may wait for a time. Beyond it, submissions with a delay are answered 429."
        ),
    )
    max_body_bytes: Size = Field(
        10 * 1024**2,
        description=(
            "The largest body of a request, and the largest payload of a task. A larger one is answered 413. Uploads "
            "have `files.max_upload_bytes` instead."
        ),
    )
    max_page_bytes: Size = Field(
        8 * 1024**2,
        description=(
            "About how many bytes of payloads, results and the like one page of a list holds. A page whose items are "
            "longer has fewer of them than `limit`, and `next_cursor` goes on after it. A single item may be longer."
        ),
    )
    max_batch: int = Field(
        1000, ge=1, le=10_000, description="How many tasks one batch may submit; a larger batch is answered 422."
    )
    max_result_bytes: Size = Field(
        10 * 1024**2,
        description="The largest result of a task, as JSON. A task that returns a larger one fails.",
    )
    max_task_events: int = Field(
        20_000,
        ge=1000,
        description="At least this many events of each task are kept in Redis; older ones are deleted.",
    )
    max_global_events: int = Field(
        500_000,
        ge=1000,
        description=(
            "At least this many events of all tasks are kept in the stream that history is recorded from. If the "
            "recorder is away for more events than that, it goes through all records in the store to catch up, and "
            "events in between are missing."
        ),
    )

    # --- how long things are kept
    retention: Duration = Field(
        24 * 3600.0,
        description=(
            "How long the record and the events of a finished task stay in Redis. Afterwards only history has the "
            "task. `types.NAME.retention` takes precedence."
        ),
    )
    ledger_retention: Duration = Field(
        30 * 86400.0,
        description=(
            "How long history keeps a task after its end. Then the task is deleted. `types.NAME.ledger_retention` "
            "takes precedence."
        ),
    )
    group_retention: Duration = Field(
        3600.0,
        description=(
            "How long a group is listed after its last task has ended. Then its name is forgotten until the next task "
            "comes. Configured groups, paused and limited groups and those that a worker serves by name are always "
            "listed."
        ),
    )
    group_idle: Duration = Field(
        60.0,
        description=(
            "How long workers of all groups (`*`) still serve a group after its last task has ended. Then they let go "
            "of its queue until the next task comes. They always serve the configured groups and those of their types."
        ),
    )
    group_ownership: Duration = Field(
        7 * 86400.0,
        description=(
            "How long a group belongs to the Celery app whose workers serve it by name or whose callers publish to it, "
            "after the last of them did. Workers of all groups (`*`) of other apps leave its tasks alone."
        ),
    )
    idempotency_ttl: Duration = Field(
        24 * 3600.0,
        description=(
            "How long an idempotency key is remembered. A submission that repeats the key later makes a new task."
        ),
    )
    replacement_wait: Duration = Field(
        7 * 86_400.0,
        gt=0,
        description=(
            "How long a plain Celery task that has replaced itself with a chain or a chord waits for the last part of "
            "it. Then the task fails; should the last part come later, it runs all the same."
        ),
    )

    # --- HTTP
    keep_alive: Duration = Field(
        75.0,
        ge=1,
        description=(
            "How long the server keeps an idle HTTP connection open. Keep it longer than your proxy does (nginx: 60 "
            "s): if the server closes first, a request that is on its way may be lost."
        ),
    )
    sse_keepalive: Duration = Field(
        15.0,
        ge=0.05,
        description=(
            "How long an event stream may be quiet before the server sends a comment, so that proxies keep it open. "
            "Keep it below the read timeout of your proxy."
        ),
    )

    # --- logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe lines that a process writes to its own log."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description=(
            "Form of the log lines of a process. `console` is for people, `json` for machines; `auto` writes "
            "`console` to a terminal and `json` elsewhere."
        ),
    )
    task_lines: int = Field(
        200,
        ge=0,
        le=100_000,
        description=(
            "How many ends of tasks a process shows per second, each in one line of its output. Further ones of that "
            "second are one line with their number. 0 shows none (also the option `--quiet`)."
        ),
    )

    @property
    def api_address(self) -> str:
        """The address of HTTP for people, without a slash at its end: the public one, else that of this machine."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - replaced
        name = f"[{host.strip('[]')}]" if ":" in host else host
        return f"http{'s' if self.access.tls else ''}://{name}:{self.port}"

    @property
    def history_url(self) -> str:
        """The URL of the history's database: the configured one, else a SQLite file in the data folder."""
        if self.database_url is not None:
            return self.database_url
        file = str(self.data_dir.absolute() / "celeriac.db")
        if "?" in file:
            raise SettingsError(
                f"data_dir: the URL of a SQLite file cannot hold the question mark of {file}: choose a folder without"
                " one, or set DATABASE_URL"
            )
        return f"sqlite:///{file}"

    @property
    def retentions(self) -> Retentions:
        """How long finished tasks are kept, by type."""
        return Retentions(self.retention, self.ledger_retention, self.types)

    @property
    def other_broker(self) -> bool:
        """Whether Celery's messages go through a broker other than the store."""
        return self.broker_url is not None and self.broker_url != self.redis_url

    def upload_folder(self) -> Path:
        """Return the folder of the upload area."""
        return self.files.upload_folder(self.data_dir)

    @property
    def queues(self) -> QueueSettings:
        """How many tasks may wait in a group, and who runs them."""
        return QueueSettings(
            self.groups,
            self.max_queue_length,
            self.dispatch.max_queue_length,
            self.max_groups,
            self.max_user_groups,
        )

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        """Return an IPv6 address as sockets take it; URLs have it in brackets."""
        host = host.strip()
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @property
    def store(self) -> StoreSettings:
        """What the store needs."""
        return StoreSettings(
            key_prefix=self.key_prefix,
            durability=self.durability,
            lease=self.lease,
            hint_grace=self.hint_grace,
            tell_within=self.tell_within,
            tell_lease=self.tell_lease,
            durability_replicas=self.durability_replicas,
            durability_timeout=self.durability_timeout,
            durability_failover=self.durability_failover,
            store_timeout=self.store_timeout,
            queues=self.queues,
            max_scheduled=self.max_scheduled,
            max_task_events=self.max_task_events,
            max_global_events=self.max_global_events,
            max_log_lines=self.task_log.lines,
            max_delta_bytes=self.dispatch.max_delta_bytes,
            audit_entries=self.access.audit_entries,
            retention=self.retention,
            group_retention=self.group_retention,
            group_idle=self.group_idle,
            group_ownership=self.group_ownership,
            idempotency_ttl=self.idempotency_ttl,
            replacement_wait=self.replacement_wait,
            presence=self.dispatch.presence,
            steps=self.steps,
            notifications=self.notifications,
            workflows=self.workflows,
            limits=self.limits,
        )
