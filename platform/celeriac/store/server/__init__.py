"""The connections to the Redis server: pooling, coalesced calls, scripts, and what the server says of itself."""
