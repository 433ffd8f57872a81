"""What the packages above the core declare as entry points: the core imports neither the API nor Celery."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final

from celeriac.errors import SettingsError

#: The processes of the API and of Celery.
PROCESSES: Final = "celeriac.processes"
#: What `celeriac adopt` does with a Celery project.
ADOPTION: Final = "celeriac.adoption"


def declared(group: str, name: str) -> Any:
    """Return what a package declares under `name`; raises `SettingsError` if it is not installed completely."""
    found = entry_points(group=group, name=name)
    if not found:
        raise SettingsError(f"this installation has no {group} {name!r}: run pip install 'celeriac[server]'")
    try:
        return next(iter(found)).load()
    except ModuleNotFoundError as exc:
        raise SettingsError(f"{name!r} needs the package {exc.name}, which is not installed") from exc
