"""Runs the whole platform for a test: a `celeriac up` in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from celeriac import json_text
from celeriac.client import Client
from celeriac.client.address import address_of
from celeriac.connection.place import Place
from celeriac.connection.process import process_connection
from celeriac.errors import PlatformStartError
from celeriac.installation.run_file import Installation, read_installation
from celeriac.settings import WELL_KNOWN, AccessSettings, config_path, load_settings
from celeriac.tasks.registry import load
from celeriac.up.parent_tie import STDIN_MARK

#: Pause between two checks whether the platform is ready.
_LOOK_S: Final = 0.02
#: `up` is killed, and its children with it, this long after the time that it gives them to stop.
_PATIENCE_S: Final = 10.0
#: Lines of its output that an error quotes.
_QUOTED: Final = 40


class Platform:
    """A running platform: its address, and a client."""

    def __init__(self, installation: Installation, client: Client, output: Path) -> None:
        #: The address of the HTTP API, for any client: `AsyncClient(platform.url)`.
        self.url = installation.http
        #: A client with all scopes. It is closed with the platform.
        self.client = client
        #: Its processes by role, the store and the database, as `celeriac up` writes them to `run.json`.
        self.installation = installation
        self._output = output

    def output(self, last: int | None = None) -> str:
        """Return what the platform's processes printed so far, or the `last` lines of it."""
        return _text(self._output, last)


@contextmanager
def platform(
    imports: Sequence[str] | None = None,
    *,
    config: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    start_timeout_s: float = 120.0,
) -> Iterator[Platform]:
    """Run the platform while the block runs: an embedded Valkey, SQLite, API, worker and beat, on free ports.

    `imports` are the modules with task types; the platform can import what this process can. `config` is the
    configuration file, by default the one in use here (`CELERIAC_CONFIG`, else `celeriac.yaml` in the current
    folder). Its addresses, stores, storage of files and authentication are not used, and neither are the settings in
    the environment. `settings` overrides all of these, by top-level name: pass `database_url` to test on PostgreSQL.

    Types of tasks submit to it: `report.run(customer=7)` in the block runs on the platform.

    The end of the block stops the platform and removes its data; running tasks get one second. If this process is
    killed, the platform ends too, and only its folder stays. The platform takes a few seconds to start, so share one
    among many tests. Raises `SettingsError`, and `PlatformStartError` after `start_timeout_s`.
    """
    file = config_path(config)
    folder = Path(tempfile.mkdtemp(prefix="celeriac-"))
    try:
        environ = _environment(imports, settings or {}, folder)
        effective = load_settings(file, {"data_dir": folder / "data"}, environ)
        load(effective.imports)  # raises here what the children would report again and again
        output = folder / "output.txt"
        process = _start(folder / "data", file, environ, output)
        try:
            installation = _ready(process, folder / "data", output, start_timeout_s)
            token = _token(effective.access, effective.data_dir)
            leave = process_connection.use(Place(api=address_of(installation.http, token)))
            try:
                with Client(installation.http, token=token) as client:
                    yield Platform(installation, client, output)
            finally:
                leave()
        finally:
            _stop(process, effective.up.stop_timeout + _PATIENCE_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(imports: Sequence[str] | None, settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the environment of `up`: that of this process without settings of Celeriac, and with those of the test."""
    ours = {*WELL_KNOWN, *(f"{name}_FILE" for name in WELL_KNOWN)}
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(("CELERIAC_", "REDIS_"))
    }
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "grpc_port": 0,
        "redis_url": None,
        "database_url": None,
        "broker_url": None,
        "files": {"storage_path": str(folder / "files"), "storage_url": None},
        "access": {"enabled": False, "tls": None},
        "worker": {"shutdown_grace": 1},
        "up": {"stop_timeout": 5},
    }
    if imports is not None:
        defaults["imports"] = list(imports)
    for name in {*defaults, *settings}:
        value, chosen = defaults.get(name), settings.get(name, defaults.get(name))
        if name != "access" and isinstance(value, dict) and isinstance(chosen, Mapping):
            chosen = {**value, **chosen}
        environ[f"CELERIAC_{name.upper()}"] = json_text.write(chosen)
    # An empty entry means the current folder.
    environ["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return environ


def _start(data_dir: Path, config: Path | None, environ: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celeriac", "up", "--data-dir", str(data_dir)]
    with output.open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - our own command line
            [*command, *(["--config", str(config)] if config else [])],
            # The kernel closes this pipe when this process ends, no matter which thread started `up`.
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environ, STDIN_MARK: "1"},
            # Ctrl-C in a terminal then reaches the test only. The test's end stops the platform.
            start_new_session=True,
        )


def _ready(process: subprocess.Popen[bytes], data_dir: Path, output: Path, timeout_s: float) -> Installation:
    give_up_at = time.monotonic() + timeout_s
    while True:
        installation = read_installation(data_dir)
        if installation is not None and installation.ready_at is not None:
            return installation
        if (code := process.poll()) is not None or time.monotonic() > give_up_at:
            how = f"is not ready after {timeout_s:g} s" if code is None else f"ended with code {code}"
            raise PlatformStartError(how, _text(output, _QUOTED))
        time.sleep(_LOOK_S)


def _text(output: Path, last: int | None) -> str:
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines if last is None else lines[-last:])


def _token(access: AccessSettings, data_dir: Path) -> str | None:
    if not access.on or access.jwks is not None:
        return None
    # Imported here: it needs cryptography, which takes longer to import than everything else.
    from celeriac.access.principal import Scope
    from celeriac.access.tokens import mint_token

    return mint_token(access, data_dir=data_dir, user_id="tests", scopes=[Scope.ADMIN])


def _stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    process.stdin.close()
