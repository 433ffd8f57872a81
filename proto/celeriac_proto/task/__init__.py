"""The task service's protocol (docs/task-service.md)."""
