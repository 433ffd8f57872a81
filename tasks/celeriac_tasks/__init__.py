"""Celeriac on Celery: the app, the pool, the base task, and what runs an attempt."""
