"""Limits: rules of how many tasks of a group, type, key or user run at once and start per time. Pure.

The service that reads and sets them is `celeriac.groups.limits`.
"""
