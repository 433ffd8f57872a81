"""The gateway of remote workers: programs in any language that open a WebSocket and take tasks."""
