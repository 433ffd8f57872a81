"""The routes of tasks: submit, read, list, follow, cancel, retry."""
