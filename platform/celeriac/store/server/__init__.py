"""The connections to the Redis server: pooling, coalesced calls, scripts, and what the server says of itself."""

from celeriac.extras import need

need(__name__, "redis", extra="server")
