"""The adapter that speaks Redis: the life cycle, leases, delays, events. Nothing else imports `redis`."""
