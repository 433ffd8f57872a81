"""Celeriac: one control plane for background work, rooted in Celery."""

from __future__ import annotations

from celeriac.client import AsyncClient, AsyncTaskHandle, Client, NewTask, TaskHandle
from celeriac.errors import (
    BatchRefusedError,
    CeleriacError,
    RetryAfter,
    SkipRetry,
    TaskCancelledError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
    WaitTimeoutError,
    WorkerRefusedError,
)
from celeriac.handlers.context import Context
from celeriac.model import LogLine, Progress, Status, Task
from celeriac.notifications import TaskProgressContext, task_notification_service, task_notifier
from celeriac.remote_worker import RemoteTask, RemoteWorker
from celeriac.schedules.definition import TaskTriggerType
from celeriac.schedules.task_control import TaskControlService, task_control_service
from celeriac.settings import Settings, load_settings
from celeriac.tasks.registry import TaskType, task
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.types.processors import FileJob, processor

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncTaskHandle",
    "BatchRefusedError",
    "CeleriacError",
    "Client",
    "Context",
    "FileJob",
    "LogLine",
    "NewTask",
    "Progress",
    "RemoteTask",
    "RemoteWorker",
    "RetryAfter",
    "RetryPolicy",
    "Settings",
    "SkipRetry",
    "Status",
    "Task",
    "TaskCancelledError",
    "TaskControlService",
    "TaskError",
    "TaskFailedError",
    "TaskHandle",
    "TaskNotFoundError",
    "TaskProgressContext",
    "TaskTriggerType",
    "TaskType",
    "WaitTimeoutError",
    "WorkerRefusedError",
    "load_settings",
    "processor",
    "task",
    "task_control_service",
    "task_notification_service",
    "task_notifier",
]
