"""Workflows: graphs of tasks that depend on each other. `service.py` is the one door to them.

Front doors use it. The life cycle of the nodes is that of tasks; the store counts what becomes of them.
"""
