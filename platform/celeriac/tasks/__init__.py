"""Tasks: what a caller submits, the types that validate it, and the record that the caller gets back.

`types/` holds the task types that Celeriac brings.
"""
