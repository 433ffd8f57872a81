"""Celeriac on Celery: the app, the pool, the base task, and the handlers of the built-in task types."""

from celeriac.extras import need

need(__name__, "celery", "redis", extra="server")
