"""Moving in: `celeriac adopt` looks at an existing Celery project, and imports its schedules.

The command line reaches `report.py` and `schedules.py` by entry points. Nothing here runs a task of the project.
"""
