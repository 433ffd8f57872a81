"""Calls of tasks on their way: as Celery publishes them, as their records keep them, and as they arrive at a worker."""
