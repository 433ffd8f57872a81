"""Notifications of users, over WebSocket and by polling: each user sees the tasks that run on their behalf."""
