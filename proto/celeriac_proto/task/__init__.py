"""The task service's protocol (contract 2)."""
