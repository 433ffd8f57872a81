"""Definitions and firings in SQL. Only `schedules` uses it."""
