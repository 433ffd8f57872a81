"""HTTP itself: bodies, problems, responses, event streams, WebSockets, digests. It does not know the routes."""
