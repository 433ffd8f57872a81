"""The whole platform for a while: a `celeriac up` of its own, in a temporary folder."""

from __future__ import annotations

import json
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

from celeriac.client import Client
from celeriac.errors import PlatformStartError
from celeriac.installation.run_file import Installation, read_installation
from celeriac.settings import WELL_KNOWN, Settings, config_path, load_settings
from celeriac.tasks.registry import load
from celeriac.up.parent_tie import STDIN_MARK

#: How often readiness is looked at.
_LOOK_S: Final = 0.02
#: After the time that `up` gives its children it is killed, and they with it.
_PATIENCE_S: Final = 10.0
#: Lines of its output that an error quotes.
_QUOTED: Final = 40


class Platform:
    """A running platform: where it is, and a client of it."""

    def __init__(self, installation: Installation, client: Client, output: Path) -> None:
        #: The address of the HTTP API, for any client: `AsyncClient(platform.url)`.
        self.url = installation.http
        #: A client that may do everything, closed with the platform.
        self.client = client
        #: Its processes by role, the store and the database, as `celeriac up` writes them to `run.json`.
        self.installation = installation
        self._output = output

    def output(self, last: int | None = None) -> str:
        """Return what its processes printed so far, or the `last` lines of it."""
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

    `imports` are the modules with task types; what this process can import, the platform's can.
    `config` is the configuration file, left out the one in use here (`CELERIAC_CONFIG`, else `celeriac.yaml` in
    the current folder); what it says of addresses, stores, files' storage and authentication does not count, nor
    does the environment. `settings` wins over all that, by top-level name: give `database_url` to test on PostgreSQL.

    All of it is gone after the block, however that ends; running tasks get a second. Where this process is killed
    instead, only the folder stays. Takes a few seconds to start, so share one among many tests. Raises `SettingsError`,
    and `PlatformStartError` after `start_timeout_s`.
    """
    file = config_path(config)
    folder = Path(tempfile.mkdtemp(prefix="celeriac-"))
    try:
        environ = _environment(imports, settings or {}, folder)
        effective = load_settings(file, {"data_dir": folder / "data"}, environ)
        load(effective.imports)  # what cannot be imported is said here, not by children that try again and again
        output = folder / "output.txt"
        process = _start(folder / "data", file, environ, output)
        try:
            installation = _ready(process, folder / "data", output, start_timeout_s)
            with Client(installation.http, token=_token(effective)) as client:
                yield Platform(installation, client, output)
        finally:
            _stop(process, effective.up.stop_timeout + _PATIENCE_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(imports: Sequence[str] | None, settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the environment of `up`: ours without its settings, and with those that make it a test's own."""
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
        environ[f"CELERIAC_{name.upper()}"] = json.dumps(chosen)
    # An empty entry is the current folder, for both.
    environ["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return environ


def _start(data_dir: Path, config: Path | None, environ: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celeriac", "up", "--data-dir", str(data_dir)]
    with output.open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - our own command line
            [*command, *(["--config", str(config)] if config else [])],
            # A pipe that the kernel closes with this process, whichever of its threads started it.
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environ, STDIN_MARK: "1"},
            # A terminal's Ctrl-C is for the test, whose end is the end of this one.
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


def _token(settings: Settings) -> str | None:
    if not settings.access.on or settings.access.jwks is not None:
        return None
    # Here: it needs cryptography, which takes longer to import than everything else.
    from celeriac.access.principal import Scope
    from celeriac.access.tokens import mint_token

    return mint_token(settings.access, data_dir=settings.data_dir, user_id="tests", scopes=[Scope.ADMIN])


def _stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    process.stdin.close()
