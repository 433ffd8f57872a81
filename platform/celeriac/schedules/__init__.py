"""Schedules: definitions, the rules of time, and the firings that make tasks (instances) of them.

`times/` holds pure rules of time; `sql/` keeps definitions and firings; `service.py` is the door.
"""
