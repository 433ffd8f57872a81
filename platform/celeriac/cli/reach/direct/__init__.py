"""Direct: on the store and the database of an installation, through the services of the core.

Only `destination.py` imports it, when a command goes this way: it needs the drivers of both.
"""
