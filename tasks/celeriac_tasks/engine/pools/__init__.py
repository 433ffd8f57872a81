"""The platform's own pool, what all pools need besides, and pools that cannot be used."""
