"""Sees when the project's own code or configuration changes, and checks whether it can be imported.

`celeriac up` and `celeriac worker --reload` use it to start their processes anew.
"""
