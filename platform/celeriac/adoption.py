"""`celeriac.adopt`: gives an existing Celery app records."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, TypeVar

from celeriac.errors import SettingsError

AnyApp = TypeVar("AnyApp")


def adopt(app: AnyApp, *, redis_url: str | None = None) -> AnyApp:
    """Give all tasks of a Celery app records, claims, leases, progress, logs and history; returns the app.

    Call it where the app is made, before or after its configuration and its tasks. It connects to nothing. A Redis
    broker holds the records too; with another broker, `redis_url`, `REDIS_URL` or `celeriac.yaml` names the store.
    Everything else stays as the project has set it: result backend, queues, serializers, pools, task classes.
    """
    # The core does not import Celery; the package that does announces itself.
    found: Any = next(iter(entry_points(group="celeriac.adoption", name="celery")), None)
    if found is None:
        raise SettingsError("this installation cannot adopt Celery apps: run pip install 'celeriac[server]'")
    return found.load()(app, redis_url=redis_url)  # type: ignore[no-any-return]
