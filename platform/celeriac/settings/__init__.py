"""All settings, in one place. Nothing else reads the environment or the YAML file.

A value comes from, highest first: an option of the command line, the environment, the YAML (or JSON) file, the
default here. Every setting has an environment variable: `CELERIAC_` and its path in capitals, with two underscores
between the levels (`CELERIAC_WORKER__CONCURRENCY=8`). Its text is read as YAML, so lists and maps work too. The names
in `WELL_KNOWN` need no prefix, and `NAME_FILE` names a file that holds the value of one of them (a mounted secret).
An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.lazy_names import lazily

if TYPE_CHECKING:
    from celeriac.durations import parse_duration_s
    from celeriac.settings.access import AccessSettings, ServerTlsSettings
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
    from celeriac.settings.files import ChainStep, FilesSettings, ProcessingSettings, S3Settings
    from celeriac.settings.grpc_services import (
        GrpcDefaults,
        GrpcService,
        GrpcServices,
        ResolvedGrpcService,
        TlsSettings,
    )
    from celeriac.settings.loading import (
        WELL_KNOWN,
        ClientEnvironment,
        client_environment,
        config_path,
        configuration_files,
        load_settings,
        redis_url_of_parts,
    )
    from celeriac.settings.model import Settings
    from celeriac.settings.notifications import NotificationSettings
    from celeriac.settings.outbox import OutboxSettings
    from celeriac.settings.pages import PagesSettings
    from celeriac.settings.retention import Retentions
    from celeriac.settings.schedule import ScheduleSettings
    from celeriac.settings.server import ServerSettings
    from celeriac.settings.store import QueueSettings, StoreSettings
    from celeriac.settings.values import GROUP_NAME, Duration, Size, parse_size_bytes

__all__ = [
    "GROUP_NAME",
    "WELL_KNOWN",
    "AccessSettings",
    "BlockedLoopSettings",
    "ChainStep",
    "ClientEnvironment",
    "DispatchSettings",
    "Duration",
    "FilesSettings",
    "GroupSettings",
    "GrpcDefaults",
    "GrpcService",
    "GrpcServices",
    "LedgerSettings",
    "NotificationSettings",
    "OutboxSettings",
    "PagesSettings",
    "ProcessingSettings",
    "QueueSettings",
    "ResolvedGrpcService",
    "Retentions",
    "S3Settings",
    "ScheduleSettings",
    "ServerSettings",
    "ServerTlsSettings",
    "Settings",
    "Size",
    "StepSettings",
    "StoreSettings",
    "TaskLogSettings",
    "TlsSettings",
    "TypeSettings",
    "UpSettings",
    "WorkerSettings",
    "client_environment",
    "config_path",
    "configuration_files",
    "load_settings",
    "parse_duration_s",
    "parse_size_bytes",
    "redis_url_of_parts",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "celeriac.durations": ("parse_duration_s",),
            "celeriac.settings.access": (
                "AccessSettings",
                "ServerTlsSettings",
            ),
            "celeriac.settings.dispatch": ("DispatchSettings",),
            "celeriac.settings.engine": (
                "BlockedLoopSettings",
                "GroupSettings",
                "LedgerSettings",
                "StepSettings",
                "TaskLogSettings",
                "TypeSettings",
                "UpSettings",
                "WorkerSettings",
            ),
            "celeriac.settings.files": (
                "ChainStep",
                "FilesSettings",
                "ProcessingSettings",
                "S3Settings",
            ),
            "celeriac.settings.grpc_services": (
                "GrpcDefaults",
                "GrpcService",
                "GrpcServices",
                "ResolvedGrpcService",
                "TlsSettings",
            ),
            "celeriac.settings.loading": (
                "WELL_KNOWN",
                "ClientEnvironment",
                "client_environment",
                "config_path",
                "configuration_files",
                "load_settings",
                "redis_url_of_parts",
            ),
            "celeriac.settings.model": ("Settings",),
            "celeriac.settings.notifications": ("NotificationSettings",),
            "celeriac.settings.outbox": ("OutboxSettings",),
            "celeriac.settings.pages": ("PagesSettings",),
            "celeriac.settings.retention": ("Retentions",),
            "celeriac.settings.schedule": ("ScheduleSettings",),
            "celeriac.settings.server": ("ServerSettings",),
            "celeriac.settings.store": (
                "QueueSettings",
                "StoreSettings",
            ),
            "celeriac.settings.values": (
                "GROUP_NAME",
                "Duration",
                "Size",
                "parse_size_bytes",
            ),
        },
    )
