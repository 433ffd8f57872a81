"""Limits: how many tasks of a group run at once, and how many start per time."""
