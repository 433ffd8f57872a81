"""History: all tasks in SQL until their retention ends, written by the recorder from the event stream."""

from celeriac.extras import need

need(__name__, "sqlalchemy", extra="server")
