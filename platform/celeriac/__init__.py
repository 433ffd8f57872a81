"""Celeriac: one control plane for background work, rooted in Celery.

`import celeriac` imports nothing else: a public name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.lazy_names import lazily

if TYPE_CHECKING:
    from celeriac.adoption import adopt
    from celeriac.client import AsyncClient, AsyncTaskHandle, Client, NewTask, TaskHandle
    from celeriac.errors import (
        BatchRefusedError,
        BlockingCallError,
        CeleriacError,
        InvalidResultError,
        InvalidSubmissionError,
        RateLimited,
        RetryAfter,
        SkipRetry,
        TaskCancelledError,
        TaskError,
        TaskFailedError,
        TaskNotFoundError,
        WaitTimeoutError,
        WorkerRefusedError,
    )
    from celeriac.handlers.context import BlockingContext, Context
    from celeriac.model import LogLine, Progress, Status, Task
    from celeriac.notifications import TaskProgressContext, task_notification_service, task_notifier
    from celeriac.remote_worker import RemoteTask, RemoteWorker
    from celeriac.schedules.declared import cron, every
    from celeriac.schedules.definition import TaskTriggerType
    from celeriac.schedules.task_control import TaskControlService, task_control_service
    from celeriac.settings import Settings, load_settings
    from celeriac.tasks.registry import task
    from celeriac.tasks.retry import RetryPolicy
    from celeriac.tasks.task_type import TaskType
    from celeriac.tasks.types.processors import FileJob, processor

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncTaskHandle",
    "BatchRefusedError",
    "BlockingCallError",
    "BlockingContext",
    "CeleriacError",
    "Client",
    "Context",
    "FileJob",
    "InvalidResultError",
    "InvalidSubmissionError",
    "LogLine",
    "NewTask",
    "Progress",
    "RateLimited",
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
    "adopt",
    "cron",
    "every",
    "load_settings",
    "processor",
    "task",
    "task_control_service",
    "task_notification_service",
    "task_notifier",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "celeriac.adoption": ("adopt",),
            "celeriac.client": ("AsyncClient", "AsyncTaskHandle", "Client", "NewTask", "TaskHandle"),
            "celeriac.errors": (
                "BatchRefusedError",
                "BlockingCallError",
                "CeleriacError",
                "InvalidResultError",
                "InvalidSubmissionError",
                "RateLimited",
                "RetryAfter",
                "SkipRetry",
                "TaskCancelledError",
                "TaskError",
                "TaskFailedError",
                "TaskNotFoundError",
                "WaitTimeoutError",
                "WorkerRefusedError",
            ),
            "celeriac.handlers.context": ("BlockingContext", "Context"),
            "celeriac.model": ("LogLine", "Progress", "Status", "Task"),
            "celeriac.notifications": ("TaskProgressContext", "task_notification_service", "task_notifier"),
            "celeriac.remote_worker": ("RemoteTask", "RemoteWorker"),
            "celeriac.schedules.declared": ("cron", "every"),
            "celeriac.schedules.definition": ("TaskTriggerType",),
            "celeriac.schedules.task_control": ("TaskControlService", "task_control_service"),
            "celeriac.settings": ("Settings", "load_settings"),
            "celeriac.tasks.registry": ("task",),
            "celeriac.tasks.retry": ("RetryPolicy",),
            "celeriac.tasks.task_type": ("TaskType",),
            "celeriac.tasks.types.processors": ("FileJob", "processor"),
        },
    )
