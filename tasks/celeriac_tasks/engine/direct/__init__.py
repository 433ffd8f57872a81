"""The direct path of a task of a registered type: from its message to the runner, past Celery's requests.

Everything that Celery shows or sends of a task is made when somebody asks for it. What needs a request from the start
goes the usual way.
"""
