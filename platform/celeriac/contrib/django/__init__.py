"""Celeriac in a Django project: a backend for Django's tasks, the outbox, the admin, and `manage.py celeriac`.

interface.py   Django's task interface: `django.tasks`, or the package `django-tasks` before Django 6
backend.py     `CeleriacBackend`: enqueue, results
results.py     a record as Django's `TaskResult`
running.py     how a worker calls the function of a task
surroundings.py what is around each attempt: connections, language, time zone
worker.py      what workers and beats import: the project's tasks and its outboxes
outbox.py      an outbox in a database of the project; `submit_in` for task types of Celeriac
configuring.py `settings.CELERIAC` as settings of Celeriac
users.py       the user of a request as the one on whose behalf tasks are submitted
moving_in.py   what django-celery-results and django-celery-beat have
views.py       a token for the signed-in user, and the scripts that show progress

See docs/django.md. Importing this package imports nothing of Django: names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.lazy_names import lazily

if TYPE_CHECKING:
    from celeriac.contrib.django.backend import CeleriacBackend
    from celeriac.contrib.django.outbox import submit_in
    from celeriac.contrib.django.running import celeriac_options

__all__ = ["CeleriacBackend", "celeriac_options", "submit_in"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "celeriac.contrib.django.backend": ("CeleriacBackend",),
            "celeriac.contrib.django.outbox": ("submit_in",),
            "celeriac.contrib.django.running": ("celeriac_options",),
        },
    )
