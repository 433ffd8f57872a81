"""Finds where this process submits its tasks to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from celeriac.client.address import Address, find_address
from celeriac.errors import SettingsError
from celeriac.installation.discovery import NoInstallationError, joined_settings
from celeriac.installation.run_file import NAME
from celeriac.settings import Settings, client_environment

#: Variables that say where the API or the store is.
_VARIABLES: Final = (
    *("CELERIAC_URL", "CELERIAC_TOKEN", "CELERIAC_API_KEY"),
    *("CELERIAC_CONFIG", "CELERIAC_DATA_DIR", "CELERIAC_REDIS_URL", "REDIS_URL", "REDIS_ADDR", "REDIS_DB"),
)

#: Changes if another place may be found than before.
Mark = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where tasks are submitted to: an API, or a store with the settings of its installation."""

    api: Address | None = None
    settings: Settings | None = None


def find_place() -> Place:
    """Return the API of `CELERIAC_URL`, else the store of the configuration, of `REDIS_URL`, or of a `celeriac up`.

    Raises `SettingsError`; if nothing is found, it says what to start or to set.
    """
    if client_environment().url is not None:
        return Place(api=find_address(None, None))
    try:
        settings, _ = joined_settings(None, None)
    except NoInstallationError:
        raise SettingsError(
            "there is nothing to submit tasks to: run `celeriac up` in this folder or in one above it, or set"
            " CELERIAC_URL to the address of an API or REDIS_URL to that of a store"
        ) from None
    return Place(settings=settings)


def mark_of(place: Place) -> Mark:
    """Return what to compare later, to see whether `find_place` may find another place by then."""
    variables = tuple(os.environ.get(name) for name in _VARIABLES)
    if place.settings is None:
        return variables
    try:
        run_file = (place.settings.data_dir / NAME).stat()
    except OSError:
        return variables
    return (*variables, run_file.st_ino, run_file.st_mtime_ns)
