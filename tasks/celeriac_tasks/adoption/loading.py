"""Loads the Celery app of a project, by the name that `celery -A` takes."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.app.utils import find_app

from celeriac.errors import SettingsError
from celeriac.installation.importing import failed_import, importing, place_of


def load_project(name: str) -> Any:
    """Return the Celery app that `celery -A NAME` would use, with all modules of its tasks imported.

    Raises `SettingsError` as `find_project` does.
    """
    app = find_project(name)
    load_tasks(app, name)
    return app


def load_tasks(app: Any, name: str) -> None:
    """Import all modules of tasks of the app of this name, as a worker does; raises `SettingsError`."""
    with importing(name):
        # Django's set-up hangs on the import of the modules.
        app.loader.import_default_modules()
        app.finalize(auto=True)


def find_project(name: str) -> Any:
    """Return the Celery app of this name: `proj`, `proj.celery` or `proj:app`.

    Raises `SettingsError`, which says in one line where the import of the project failed, or what the name lacks.
    """
    app = _found(name)
    if not isinstance(app, Celery):
        raise SettingsError(
            f"{name} is of the type {type(app).__name__}, not a Celery app: name the app as MODULE:NAME"
        )
    return app


def _found(name: str) -> Any:
    module = name.partition(":")[0]
    try:
        return find_app(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as exc:
        if exc.name == name and ":" in name:
            raise SettingsError(f"the module {module} has no {name.partition(':')[2]!r}: name its Celery app") from exc
        if exc.name is not None and f"{module}.".startswith(f"{exc.name}."):
            raise SettingsError(
                f"there is no module {exc.name!r} here: run this in the folder of the project, and name the module as"
                " `celery -A` takes it"
            ) from exc
        raise failed_import(name, exc) from exc
    except AttributeError as exc:
        if place_of(exc) is None:
            raise SettingsError(
                f"the module {module} has no Celery app: name the module that has it, or the app as MODULE:NAME"
            ) from exc
        raise failed_import(name, exc) from exc
    except BaseException as exc:  # a module may end the process, too
        raise failed_import(name, exc) from exc
