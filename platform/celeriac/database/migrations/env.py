"""What alembic runs: the migrations, on the connection that `celeriac.database.migrating` opened."""

from __future__ import annotations

from alembic import context

from celeriac.database import schedule_tables, workflow_tables  # noqa: F401 - their tables join the metadata
from celeriac.database.migrating import VERSION_TABLE
from celeriac.database.task_tables import metadata

if context.is_offline_mode():
    raise SystemExit("run `celeriac migrate`: it brings the connection and the lock")

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite changes columns only by copying the table.
    render_as_batch=True,
)
context.run_migrations()
