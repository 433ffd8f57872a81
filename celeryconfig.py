"""The Celery settings of this installation: edit them here.

Every `celeriac worker` and `celery -A celeriac_tasks ...` that starts in this folder reads this file. All other
settings keep the platform's values; `tasks/celeriac_tasks/engine/app.py` lists those with the reasons.
"""

# How long one attempt to connect to the broker may take (seconds).
broker_connection_timeout = 4.0

# Whether Flower shows a plain Celery task as started before it ends.
task_track_started = True

# Modules of plain Celery tasks to import, in addition to the task types of `imports` in celeriac.yaml.
imports: list[str] = []
