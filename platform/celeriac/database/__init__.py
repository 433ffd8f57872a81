"""SQL: the engine, the tables and their migrations.

`history` and `schedules.sql` work on it; no other room imports `sqlalchemy`.
"""
