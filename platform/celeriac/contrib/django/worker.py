"""What workers and beats of a Django project import: its tasks and its outboxes.

`manage.py celeriac` has it imported. Without that command, name it in `imports`, and set DJANGO_SETTINGS_MODULE.
"""

from __future__ import annotations

from functools import partial

import django
from django.apps import apps
from django.utils.module_loading import autodiscover_modules

if not apps.ready:
    django.setup()

from celeriac.contrib.django.outbox import DjangoOutbox, outbox_databases
from celeriac.outbox.source import relay_from

# As Celery does it: the module `tasks` of each app.
autodiscover_modules("tasks")
for alias in outbox_databases():
    relay_from(f"django:{alias}", partial(DjangoOutbox, alias))
