"""The engine: Celery through its own extension points (app, pool, base task, transport, signals, result backend)."""
