"""The WebSocket of users: each sees the tasks that run on their behalf."""
