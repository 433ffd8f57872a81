"""Celeriac on Celery: the app, the pool, the base task, and the handlers of the built-in task types."""
