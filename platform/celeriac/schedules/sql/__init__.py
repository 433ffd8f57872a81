"""Definitions and firings in SQL. Only `schedules` uses it."""

from celeriac.extras import need

need(__name__, "sqlalchemy", extra="server")
