"""The Celery settings of this installation: edit them here.

Read by every `celeriac worker` and `celery -A celeriac_tasks ...` that starts in this folder. What is
left out has the platform's own value; `tasks/celeriac_tasks/engine/app.py` lists those, with the reasons.
"""

# How long one attempt to connect to the broker may take (seconds).
broker_connection_timeout = 4.0

# Whether a plain Celery task counts as started in Flower before it ends.
task_track_started = True

# Modules of plain Celery tasks to import, beside the task types of `imports` in celeriac.yaml.
imports: list[str] = []
