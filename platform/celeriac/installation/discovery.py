"""How a program finds its settings, and the installation to talk to."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celeriac.errors import SettingsError
from celeriac.installation.run_file import find_installation

if TYPE_CHECKING:
    from celeriac.settings import FilesSettings, Settings

#: The data folder if none is named, relative to the folder of the project.
DATA_DIR: Final = Path(".celeriac")


class NoInstallationError(SettingsError):
    """Nothing says where a store is: no setting, and no `celeriac up` that runs here or in a parent folder."""


def nearest_data_dir() -> Path:
    """Return `.celeriac` of this folder, else that of the nearest parent folder that has one, else that of this folder.

    A folder that belongs to another user does not count: it would decide which modules a command imports.
    """
    if DATA_DIR.is_dir():
        return DATA_DIR
    return next((folder / DATA_DIR for folder in _parents() if _is_own_folder(folder / DATA_DIR)), DATA_DIR)


def _parents() -> tuple[Path, ...]:
    try:
        return tuple(Path.cwd().parents)
    except FileNotFoundError:  # this folder was removed
        return ()


def _is_own_folder(path: Path) -> bool:
    try:
        return path.is_dir() and path.stat().st_uid in (os.geteuid(), 0)
    except OSError:
        return False


def import_from_here() -> None:
    """Let `imports` name modules of the current folder, as `python -m` does; a console script would not see them."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def joined_settings(
    config: Path | None,
    data_dir: Path | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    fallback: str | None = None,
) -> tuple[Settings, str]:
    """Return the settings with every address filled in, and the store's URL.

    Addresses that are not set are those of the `celeriac up` that runs on the data folder (if neither that nor a store
    is set: of this folder or of the nearest parent folder); so is the configuration file where none is named or lies in
    the current folder. `fallback` is the store where there is no other; without one, `NoInstallationError` says what to
    do.
    """
    from celeriac.settings import config_path, load_settings

    chosen = {**(overrides or {}), "data_dir": None if data_dir is None else str(data_dir)}
    settings = load_settings(config, chosen)
    if settings.redis_url is None and "data_dir" not in settings.model_fields_set:
        settings = settings.model_copy(update={"data_dir": nearest_data_dir()})
    installation = find_installation(settings.data_dir)
    if installation is not None:
        if installation.config and config_path(config) is None and Path(installation.config).is_file():
            folder = settings.data_dir
            settings = load_settings(Path(installation.config), {**chosen, "data_dir": str(folder)})
        settings = settings.model_copy(
            update={
                "redis_url": settings.redis_url or installation.redis,
                "database_url": settings.database_url or installation.database,
                "files": _files(settings.files, installation.storage),
            }
        )
    if settings.redis_url is None and fallback is not None:
        settings = settings.model_copy(update={"redis_url": fallback})
    if settings.redis_url is None:
        raise NoInstallationError(
            f"no `celeriac up` runs on {settings.data_dir}: start one, name its folder with --data-dir or"
            " CELERIAC_DATA_DIR, or set REDIS_URL to the store to use"
        )
    return settings.model_copy(update={"database_url": settings.history_url}), settings.redis_url


def _files(files: FilesSettings, storage: str | None) -> FilesSettings:
    """Return the settings of files with the installation's storage, unless another one is set."""
    if storage is None or "storage_path" in files.model_fields_set:
        return files
    return files.model_copy(update={"storage_path": Path(storage)})
