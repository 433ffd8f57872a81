"""All settings, in one place: the only reader of the environment and of the YAML file.

A value comes from, highest first: an argument of the command line, the environment, the YAML (or
JSON) file, the default here. Any setting has an environment variable: `CELERIAC_` and its path in
upper case, levels separated by two underscores (`CELERIAC_WORKER__CONCURRENCY=8`); its text is read
as YAML, so lists and maps work too. The well-known names in `WELL_KNOWN` need no prefix. An unknown
key is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import quote

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from celeriac.errors import SettingsError

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"\s*(\d+)\s*(B|KiB|MiB|GiB)?\s*", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, None: 1}


def parse_duration_s(value: Any) -> Any:
    """Read `500ms`, `30s`, `10m`, `1h`, `7d` or plain seconds as seconds; anything else is left to fail."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError("is not a duration: write 500ms, 30s, 10m, 1h, 7d or plain seconds")
        return float(match[1]) * _UNIT_S[match[2]]
    if isinstance(value, bool):
        raise ValueError("is not a duration: write 500ms, 30s, 10m, 1h, 7d or plain seconds")
    return value


def parse_size_bytes(value: Any) -> Any:
    """Read `512KiB`, `10MiB`, `1GiB` or plain bytes as bytes."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError("is not a size: write 512KiB, 10MiB, 1GiB or plain bytes")
        return int(match[1]) * _UNIT_BYTES[match[2] and match[2].lower()]
    return value


#: Seconds; written `500ms`, `30s`, `10m`, `1h`, `7d` or as a plain number of seconds.
Duration = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0)]
#: Bytes; written `512KiB`, `10MiB`, `1GiB` or as a plain number.
Size = Annotated[int, BeforeValidator(parse_size_bytes), Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TlsSettings(_Section):
    """TLS of a connection to a service: paths to PEM files, read when the channel is opened."""

    #: Certificate authorities to trust; the system's where it is left out.
    ca_file: Path | None = None
    #: Certificate and key of the client, for mutual TLS.
    cert_file: Path | None = None
    key_file: Path | None = None
    #: Name to expect in the server's certificate, where it differs from the address.
    server_name: str | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("mutual TLS needs both cert_file and key_file")
        return self


class GrpcDefaults(_Section):
    """What a gRPC service uses for each value that it leaves out."""

    timeout: Duration = 300.0
    health_check_interval: Duration = 30.0
    max_retries: int = Field(3, ge=0)
    retry_delay: Duration = 1.0


class GrpcService(_Section):
    """One executor: where it is and how it is called."""

    address: str = Field(min_length=1)
    timeout: Duration | None = None
    health_check_interval: Duration | None = None
    max_retries: int | None = Field(None, ge=0)
    retry_delay: Duration | None = None
    #: Present (even empty) turns TLS on.
    tls: TlsSettings | None = None
    #: Sent with each call, e.g. `{authorization: "Bearer …"}`; never logged.
    metadata: dict[str, SecretStr] = Field(default_factory=dict)

    def filled(self, defaults: GrpcDefaults) -> ResolvedGrpcService:
        """Return the service with every value it leaves out taken from `defaults`."""

        def pick(name: str) -> Any:
            own = getattr(self, name)
            return getattr(defaults, name) if own is None else own

        return ResolvedGrpcService(
            address=self.address,
            timeout=pick("timeout"),
            health_check_interval=pick("health_check_interval"),
            max_retries=pick("max_retries"),
            retry_delay=pick("retry_delay"),
            tls=self.tls,
            metadata=self.metadata,
        )


class ResolvedGrpcService(GrpcDefaults):
    """A gRPC service with nothing left open."""

    address: str
    tls: TlsSettings | None = None
    metadata: dict[str, SecretStr] = Field(default_factory=dict)


class GrpcServices(_Section):
    """The executors that `grpc_task` can call, by name."""

    enabled: bool = True
    services: dict[str, GrpcService] = Field(default_factory=dict)
    defaults: GrpcDefaults = GrpcDefaults()

    def resolve(self, name: str) -> ResolvedGrpcService | None:
        """Return the service of this name, filled from the defaults, or None."""
        service = self.services.get(name)
        return None if service is None else service.filled(self.defaults)


class GroupSettings(_Section):
    """One worker group."""

    #: Waiting tasks above which a submission is refused; None is `max_queue_length`.
    max_queue_length: int | None = Field(None, ge=1)
    #: `celery`: our workers. `external`: a foreign program that pops `task:pending`.
    processor: Literal["celery", "external"] = "celery"


def _step_from_name(value: Any) -> Any:
    return {"processor": value} if isinstance(value, str) else value


class ChainStep(_Section):
    """One step of a chain of file processors; written as the bare name where it needs no more."""

    processor: str = Field(min_length=1)
    #: What its options are, unless a submission says otherwise.
    options: dict[str, Any] = Field(default_factory=dict)
    #: Whether it works on the original or on what the first step made of it.
    of: Literal["original", "result"] = "original"


class ProcessingSettings(_Section):
    """How `file_process` tasks run: each processor in a child process, with these limits."""

    #: Runs at once in one worker process; None is the number of CPUs.
    concurrency: int | None = Field(None, ge=1, le=1024)
    #: Longest run of a whole task, by the clock, and of each of its processes, in CPU time.
    timeout: Duration = Field(3600.0, gt=0)
    cpu_time: Duration = Field(4 * 3600.0, ge=1)
    #: Most memory of each process (its data, `RLIMIT_DATA`).
    memory: Size = Field(2 * 1024**3, ge=128 * 1024**2)
    #: Largest file that may be written.
    max_output_bytes: Size = Field(20 * 1024**3, ge=1)
    max_open_files: int = Field(256, ge=32)
    #: Largest picture, and largest frame of a video, in pixels.
    max_pixels: int = Field(100_000_000, ge=1)
    #: Longest video or sound.
    max_duration: Duration = Field(12 * 3600.0, gt=0)
    #: Threads of one ffmpeg.
    threads: int = Field(2, ge=1, le=64)
    #: The ffmpeg to use; None is the one on PATH, else the one that came with the installation.
    ffmpeg: Path | None = None
    #: Processors that are several in a row, by name. `video` is what `CreateTask` runs.
    chains: dict[str, list[Annotated[ChainStep, BeforeValidator(_step_from_name)]]] = Field(
        default_factory=lambda: {
            "video": [
                ChainStep(processor="transcode"),
                ChainStep(processor="thumbnail", of="result"),
                ChainStep(processor="probe", of="result"),
            ]
        }
    )

    @model_validator(mode="after")
    def _steps(self) -> Self:
        for name, steps in self.chains.items():
            if not steps:
                raise ValueError(f"the chain {name!r} has no steps")
            if len({step.processor for step in steps}) < len(steps):
                raise ValueError(f"the chain {name!r} has a processor twice")
        return self


def _paths_from_text(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


class S3Settings(_Section):
    """Object storage that speaks S3. Credentials come from where AWS' tools find them (`AWS_ACCESS_KEY_ID`, …)."""

    #: URL of a server that is not Amazon's.
    endpoint: str | None = None
    region: str | None = None
    #: Whether the bucket is part of the host name.
    virtual_hosted: bool = False


class FilesSettings(_Section):
    """Files: where they live, from where they are taken, and how they are processed."""

    #: Root of the storage: what is handed over goes to a folder of its task below it.
    storage_path: Path = Path("storage")
    #: Folders from which files may be taken over; None is the data folder's upload area and the system's
    #: temporary folder. In the environment separated like PATH.
    allowed_roots: Annotated[list[Path] | None, BeforeValidator(_paths_from_text)] = None
    #: Storage that several machines share, where the files of tasks then live: `s3://BUCKET/PREFIX`, or
    #: `file:///FOLDER` for one that is mounted everywhere (`STORAGE_URL`). None: they live in `storage_path`.
    storage_url: str | None = None
    s3: S3Settings = S3Settings()
    #: The upload area; None is `uploads` in the data folder. On the storage's filesystem a handoff is one rename.
    upload_path: Path | None = None
    #: Largest upload (`MAX_UPLOAD_BYTES`).
    max_upload_bytes: Size = Field(20 * 1024**3, ge=1)
    #: What all uploads together may take, and how many there may be at once.
    upload_quota: Size = Field(200 * 1024**3, ge=1)
    max_uploads: int = Field(10_000, ge=1)
    #: Media types that are taken, e.g. `video/*` or `image/png`.
    upload_types: list[str] = Field(default_factory=lambda: ["*/*"])
    #: How long an upload that no task took, or that nobody goes on with, is kept.
    upload_ttl: Duration = Field(24 * 3600.0, ge=1)
    #: How long the files of a task are kept once its record is gone; None is for ever.
    keep: Duration | None = None
    processing: ProcessingSettings = ProcessingSettings()


class WorkerSettings(_Section):
    """A Celery worker process."""

    #: Groups it serves: names separated by commas, or `*` for all, also those that appear later.
    groups: str = "*"
    #: Tasks it runs at once; async handlers and gRPC streams share one loop and cost little.
    concurrency: int = Field(1000, ge=1, le=100_000)
    #: Of those, plain functions, which take a thread each.
    threads: int = Field(32, ge=1, le=10_000)
    #: On a warm shutdown, how long running tasks may go on before they are given back.
    shutdown_grace: Duration = 8.0
    #: How often it looks for new groups when it serves `*`.
    follow_interval: Duration = 1.0
    #: Progress reports of one task that may be on their way to the store.
    progress_buffer: int = Field(1000, ge=1)
    #: Celery events, for Flower.
    send_events: bool = True


class TypeSettings(_Section):
    """One task type."""

    #: How long the record and events of a finished task stay in Redis; None is the type's own, else `retention`.
    retention: Duration | None = None
    #: How long history keeps a finished task; None is `ledger_retention`.
    ledger_retention: Duration | None = None


class LedgerSettings(_Section):
    """How history gets into SQL."""

    #: Of a task's progress reports, those that history keeps: the last one of each attempt, or all. Redis
    #: has them all (up to `max_task_events`) until the record's retention is over.
    progress: Literal["none", "last", "all"] = "last"
    #: Pause between two looks at the event stream. The longer, the more changes of a task are written as one.
    interval: Duration = Field(0.5, ge=0.01)
    #: Events taken at once.
    batch: int = Field(2000, ge=1, le=10_000)
    #: How far `celeriac beat` steps back for others where the processor is short (0 to 19, as of `nice`). Its other
    #: roles run in every worker too; what it records late is not lost.
    nice: int = Field(10, ge=0, le=19)
    #: Also record in worker processes, where no `celeriac beat` runs.
    in_workers: bool = False
    #: Longest run of one statement.
    statement_timeout: Duration = Field(30.0, ge=0.1)


class UpSettings(_Section):
    """What `celeriac up` starts besides its own parts."""

    #: Worker processes.
    workers: int = Field(1, ge=0, le=64)
    #: Programs of yours to run and restart along with the platform: name → command line.
    processes: dict[str, str] = Field(default_factory=dict)
    #: Longest time from Ctrl-C until a child is killed.
    stop_timeout: Duration = 15.0


class Settings(_Section):
    """The whole configuration. Instances are immutable; build one with `load_settings`."""

    # --- addresses
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    grpc_port: int = Field(50050, ge=0, le=65535)
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
    ledger: LedgerSettings = LedgerSettings()
    files: FilesSettings = FilesSettings()
    up: UpSettings = UpSettings()

    # --- reliability
    #: `everysec`: written before the answer, on disk within a second. `fsync`: on disk before the answer.
    durability: Literal["everysec", "fsync"] = "everysec"
    #: How long a running task stays its worker's without a renewal.
    lease: Duration = Field(15.0, ge=1)
    #: How long a message may be away from its queue unclaimed before it is sent again.
    hint_grace: Duration = Field(5.0, ge=0.5)
    #: How long Redis may be away before a submission is answered "unavailable".
    store_timeout: Duration = 3.0

    # --- limits
    max_queue_length: int = Field(100_000, ge=1)
    max_scheduled: int = Field(1_000_000, ge=1)
    max_body_bytes: Size = 10 * 1024**2
    #: Tasks that one batch may submit.
    max_batch: int = Field(1000, ge=1, le=10_000)
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
    idempotency_ttl: Duration = 24 * 3600.0

    # --- HTTP
    #: A comment on quiet event streams, so that proxies keep them open.
    sse_keepalive: Duration = 15.0

    # --- logs
    log_level: Literal["debug", "info", "warning", "error"] = "info"
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

    def queue_limit(self, group: str) -> int:
        """Return how many tasks may wait in `group`."""
        own = self.groups.get(group)
        return self.max_queue_length if own is None or own.max_queue_length is None else own.max_queue_length


#: Names that other programs and the contracts know, and the setting each one is.
WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "REDIS_URL": ("redis_url",),
    "DATABASE_URL": ("database_url",),
    "BROKER_URL": ("broker_url",),
    "GRPC_SERVICES": ("grpc_services",),
    "TASK_GRPC_PORT": ("grpc_port",),
    "MAX_BODY_BYTES": ("max_body_bytes",),
    "MAX_UPLOAD_BYTES": ("files", "max_upload_bytes"),
    "LOCAL_STORAGE_PATH": ("files", "storage_path"),
    "STORAGE_URL": ("files", "storage_url"),
    "ALLOWED_FILE_ROOTS": ("files", "allowed_roots"),
    "FFMPEG_BINARY": ("files", "processing", "ffmpeg"),
}

#: Those that hold paths, which are never read as YAML.
_PLAIN_TEXTS = {"LOCAL_STORAGE_PATH", "ALLOWED_FILE_ROOTS", "FFMPEG_BINARY"}

#: Variables of our prefix that are no settings: they say where to find them, or where clients find the API.
_NOT_SETTINGS = {"CELERIAC_CONFIG", "CELERIAC_URL", "CELERIAC_TOKEN"}


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings; raises `SettingsError` that names the key and what to do.

    `config` is a YAML or JSON file; left out, it is `CELERIAC_CONFIG`, else `celeriac.yaml` in the
    current folder if there is one. `overrides` (None values are ignored) win over everything.
    """
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    path = config_path(config, env)
    if path is not None:
        _merge(values, _read_file(path))
    _merge(values, _read_environment(env))
    _merge(values, {key: value for key, value in (overrides or {}).items() if value is not None})
    if problem := next(_unknown_keys(values, Settings), None):
        raise SettingsError(problem)
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{where or 'settings'}: {first['msg']}") from exc


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """What the environment tells a client of the API: `CELERIAC_URL`, `_TOKEN` and `_DATA_DIR`."""

    url: str | None
    token: str | None
    data_dir: Path


def client_environment(environ: Mapping[str, str] | None = None) -> ClientEnvironment:
    """Read what a client takes from the environment. Unlike the settings it needs no file and cannot be wrong."""
    env = os.environ if environ is None else environ
    return ClientEnvironment(
        url=env.get("CELERIAC_URL") or None,
        token=env.get("CELERIAC_TOKEN") or None,
        data_dir=Path(env.get("CELERIAC_DATA_DIR") or ".celeriac"),
    )


def config_path(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the configuration file in use, or None; a named one that does not exist is a `SettingsError`."""
    env = os.environ if environ is None else environ
    named = config or (Path(env["CELERIAC_CONFIG"]) if env.get("CELERIAC_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"there is no configuration file {named}")
        return named
    default = Path("celeriac.yaml")
    return default if default.is_file() else None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read as YAML or JSON: {exc}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold a mapping of settings, not {type(content).__name__}")
    return content


def _read_environment(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if env.get("REDIS_ADDR"):
        values["redis_url"] = _redis_url(env)
    for name, path in WELL_KNOWN.items():
        if env.get(name):
            _put(values, path, env[name] if name in _PLAIN_TEXTS else _read_text(name, env[name]))
    for name, text in env.items():
        if name.startswith("CELERIAC_") and name not in _NOT_SETTINGS:
            path = tuple(part.lower() for part in name.removeprefix("CELERIAC_").split("__"))
            _put(values, path, _read_text(name, text))
    return values


def contract_redis_url(environ: Mapping[str, str] | None = None) -> str:
    """Return the store that `REDIS_ADDR`, `REDIS_PASSWORD` and `REDIS_DB` name, each with its default (contract 2)."""
    return _redis_url(os.environ if environ is None else environ)


def _redis_url(env: Mapping[str, str]) -> str:
    password = env.get("REDIS_PASSWORD", "")
    login = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{env.get('REDIS_ADDR') or 'localhost:6379'}/{env.get('REDIS_DB') or 0}"


def _read_text(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if text.strip() else text
    except yaml.YAMLError:
        return text
    except ValueError as exc:  # YAML reads some texts as dates that do not exist
        raise SettingsError(f"{name} cannot be read: {exc}") from exc


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        level = values.setdefault(part, {})
        if not isinstance(level, dict):
            raise SettingsError(f"{'.'.join(path)} lies below a setting that is not a mapping")
        values = level
    if isinstance(value, dict) and isinstance(values.get(path[-1]), dict):
        _merge(values[path[-1]], value)
    else:
        values[path[-1]] = value


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _unknown_keys(values: Mapping[str, Any], model: type[BaseModel], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        field = model.model_fields.get(str(key))
        if field is None:
            near = difflib.get_close_matches(str(key), list(model.model_fields), n=1, cutoff=0.5)
            known = f"did you mean {path}{near[0]}?" if near else f"known are: {', '.join(model.model_fields)}"
            yield f"there is no setting {path}{key}; {known}"
            continue
        section = _section_of(field.annotation)
        if section is None or not isinstance(value, Mapping):
            continue
        child, keyed = section
        for name, inner in value.items() if keyed else (("", value),):
            if isinstance(inner, Mapping):
                prefix = f"{path}{key}.{name}." if keyed else f"{path}{key}."
                yield from _unknown_keys(inner, child, prefix)


def _section_of(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """Return the model below a field and whether the field maps names to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        if (inner := _section_of(argument)) is not None:
            return inner[0], inner[1] or getattr(annotation, "__origin__", None) is dict
    return None
