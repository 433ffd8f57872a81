"""Calling tasks: how a program submits a task of a type, and what it does with a task that it has submitted.

submittable.py  `submit`, `run`, `options` and their twins for asyncio: what types of tasks have
handle.py       `TaskHandle` for blocking code and asyncio, `AsyncTaskHandle` for one event loop
options.py      what a caller passes, and how it is written as JSON
access.py       what handles and types need of a connection, and where the connection of this process is found
blocking.py     the thread on which the work of blocking calls is done
"""
