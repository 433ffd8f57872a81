"""`settings.CELERIAC` of the project: settings of Celeriac, which the environment overrides as it overrides a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import SettingsError
from celeriac.settings import WELL_KNOWN

_PREFIX: Final = "CELERIAC_"
#: What workers and beats of the project import.
WORKER_MODULE: Final = "celeriac.contrib.django.worker"


def configure(chosen: object, environ: MutableMapping[str, str] | None = None) -> None:
    """Put the project's settings into the environment, where this process and those that it starts find them.

    A variable that is there already counts. Raises `SettingsError` unless `chosen` is a mapping of names to values.
    """
    env = os.environ if environ is None else environ
    if not isinstance(chosen, Mapping) or not all(isinstance(name, str) for name in chosen):
        raise SettingsError('settings.CELERIAC must be a dictionary, such as {"redis_url": "redis://localhost:6379/0"}')
    known = {path[0]: name for name, path in WELL_KNOWN.items() if len(path) == 1}
    for name, value in chosen.items():
        variable = f"{_PREFIX}{name.upper()}"
        if value is None or variable in env or known.get(name.lower(), variable) in env:
            continue
        env[variable] = _text(_left(value, variable, env))


def add_imports(environ: MutableMapping[str, str] | None = None) -> None:
    """Have workers and beats that this process becomes, or starts, import the project's tasks first."""
    env = os.environ if environ is None else environ
    before = env.get(f"{_PREFIX}IMPORTS", "")
    named = json_text.read(before) if before.startswith("[") else [part for part in before.split(",") if part.strip()]
    if WORKER_MODULE not in named:
        env[f"{_PREFIX}IMPORTS"] = json_text.write([WORKER_MODULE, *named])


def add_project_path(environ: MutableMapping[str, str] | None = None) -> None:
    """Have processes that this one starts find the project's modules, also if `manage.py` lies in another folder."""
    env = os.environ if environ is None else environ
    before = env.get("PYTHONPATH", "").split(os.pathsep) if env.get("PYTHONPATH") else []
    project = os.path.abspath(sys.path[0])
    if project not in before:
        env["PYTHONPATH"] = os.pathsep.join([project, *before])


def _left(value: Any, variable: str, env: Mapping[str, str]) -> Any:
    """Return a value without the parts for which the environment has variables of their own."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: _left(one, inner, env)
        for name, one in value.items()
        if (inner := f"{variable}__{str(name).upper()}") not in env
    }


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json_text.write(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    raise SettingsError(f"settings.CELERIAC: {value!r} cannot be written as JSON")
