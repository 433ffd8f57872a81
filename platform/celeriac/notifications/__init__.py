"""Programs report their own tasks, and users follow them. A program needs neither the API nor Celery.

service.py   the calls: register, started, progress, completed, failed, cancelled
notifier.py  the decorator and the context manager around a piece of work
reporter.py  the process's connection to the store, on a thread of its own
"""

from celeriac.notifications.notifier import TaskProgressContext, task_notifier
from celeriac.notifications.service import TaskNotificationService, task_notification_service

__all__ = ["TaskNotificationService", "TaskProgressContext", "task_notification_service", "task_notifier"]
