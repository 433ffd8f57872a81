"""What of an existing Celery app works with `adopt`: one table of rules, for the report and for `adopt` itself.

`findings.py` is the door. The rules look at an app that is configured; they contact no server and run no task.
"""
