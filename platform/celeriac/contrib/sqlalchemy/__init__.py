"""Submitting inside of a transaction of SQLAlchemy.

    from celeriac.contrib.sqlalchemy import outbox_table, submit_in

    outbox_table(Base.metadata)

    with Session(engine) as session, session.begin():
        session.add(order)
        handle = submit_in(session, send_invoice, order=17)

The row is in the session's own transaction: it is committed with the order, or not at all. A worker or a beat whose
setting `outbox.databases` names the database submits it under `handle.id`, and deletes it. See docs/outbox.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.extras import need
from celeriac.lazy_names import lazily

if TYPE_CHECKING:
    from celeriac.contrib.sqlalchemy.submitting import asubmit_in, submit_in
    from celeriac.outbox.table import outbox_table

__all__ = ["asubmit_in", "outbox_table", "submit_in"]

need(__name__, "sqlalchemy", extra="server")

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "celeriac.contrib.sqlalchemy.submitting": ("asubmit_in", "submit_in"),
            "celeriac.outbox.table": ("outbox_table",),
        },
    )
