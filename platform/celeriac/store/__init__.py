"""The adapter that speaks Redis: the life cycle, leases, delays, events. No other room imports `redis`.

`lua/` holds the atomic scripts, `server/` the connections to the server, `watching/` the live feeds, `roles/` the
background roles. Services use it; it knows none of them.
"""
