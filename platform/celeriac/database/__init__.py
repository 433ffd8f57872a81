"""SQL: the engine, the tables and their migrations.

`history` and `schedules.sql` work on it; no other room imports `sqlalchemy`.
"""

from celeriac.extras import need

need(__name__, "sqlalchemy", "alembic", extra="server")
