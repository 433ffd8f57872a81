"""The connection of this process: where types of tasks submit to, if their caller names no client.

place.py         finds where that is
store_access.py  tasks through the store itself
on_demand.py     the history and the service of files, connected to when they are needed
process.py       the one connection of the process; it is made at its first use, and anew in a forked child
"""
