"""Tell users how their tasks are doing, from any program: without the API, without Celery."""

from celeriac.notifications.running import TaskProgressContext, task_notifier
from celeriac.notifications.service import TaskNotificationService, task_notification_service

__all__ = ["TaskNotificationService", "TaskProgressContext", "task_notification_service", "task_notifier"]
