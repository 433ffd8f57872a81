"""Live feeds: a message only wakes a reader, and the reader reads on from its own position."""

from celeriac.extras import need

need(__name__, "redis", extra="server")
