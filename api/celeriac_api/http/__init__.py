"""HTTP itself: bodies, problems, responses, event streams, digests. The routes use it; it knows no route."""
