"""The children of `celeriac up`: their command lines and environments."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from celeriac.errors import SettingsError
from celeriac.installation.private_file import write_private
from celeriac.settings import GrpcService, Settings
from celeriac.settings.environment import is_service_variable
from celeriac.settings.executor_address import read_address
from celeriac.standard_streams import COLOURS_MARK
from celeriac.up.embedded import EmbeddedStore
from celeriac.up.supervisor import ChildSpec

#: The user of Flower, and the file in the data folder with the password, if authentication is on.
FLOWER_USER: Final = "celeriac"
FLOWER_PASSWORD: Final = "flower_password"  # noqa: S105 - the name of a file
#: The role of the embedded store.
STORE = "valkey-server"
#: The placeholder in an operator's command line for the port of a service, so that the port is configured once.
_PORT_OF: Final = re.compile(r"\{grpc_services\.([^{}\s]+)\.port\}")


def child_environment(
    settings: Settings,
    *,
    redis_url: str,
    database_url: str,
    config: Path | None,
    environ: Mapping[str, str],
    colours: bool = False,
) -> dict[str, str]:
    """Return the environment of every child. Secrets are passed this way, never on a command line.

    Only names of settings are set, so an operator's own program can load the same settings.
    """
    child = {
        **environ,
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "CELERIAC_DATA_DIR": str(settings.data_dir),
        "CELERIAC_HOST": settings.host,
        "CELERIAC_PORT": str(settings.port),
        "CELERIAC_GRPC_PORT": str(settings.grpc_port),
        # Children write to a pipe, for which `auto` would choose JSON; people are to read it.
        "CELERIAC_LOG_FORMAT": "json" if settings.log_format == "json" else "console",
        "CELERIAC_TASK_LINES": str(settings.task_lines),
        COLOURS_MARK: "1" if colours else "",
        "PYTHONUNBUFFERED": "1",
    }
    if config is not None:
        child["CELERIAC_CONFIG"] = str(config)
    # Other names for the same settings, which would win or contradict.
    for name in ("CELERIAC_REDIS_URL", "CELERIAC_DATABASE_URL", "REDIS_ADDR", "REDIS_PASSWORD", "REDIS_DB"):
        child.pop(name, None)
    child.pop("TASK_GRPC_PORT", None)
    return child


def store_child(store: EmbeddedStore, environ: Mapping[str, str]) -> ChildSpec:
    """Return the embedded store's process. It runs in its own folder and shuts down in order if `up` dies."""
    return ChildSpec(STORE, store.argv, environ, cwd=store.folder, orphan_signal=signal.SIGTERM)


def platform_commands(settings: Settings, *, config: Path | None, insecure: bool) -> dict[str, tuple[str, ...]]:
    """Return the command lines of the platform's own processes: `api`, `beat`, `worker`, `worker-2`, …"""
    shared = ["--data-dir", str(settings.data_dir), *(["--config", str(config)] if config else [])]
    api = ["--host", settings.host, "--port", str(settings.port), "--grpc-port", str(settings.grpc_port)]
    worker = ["--groups", settings.worker.groups, "--concurrency", str(settings.worker.concurrency)]
    commands = {"api": ["api", *api, *(["--insecure"] if insecure else []), *shared], "beat": ["beat", *shared]}
    for number in range(1, settings.up.workers + 1):
        commands["worker" if number == 1 else f"worker-{number}"] = ["worker", *worker, *shared]
    found = {name: (sys.executable, "-m", "celeriac", *command) for name, command in commands.items()}
    if settings.up.flower:
        found["flower"] = _flower_command(settings.up.flower_port)
    return found


def flower_environment(
    settings: Settings, data_dir: Path, environ: Mapping[str, str], common: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of Flower: `common`, and with authentication on a user and a password of its own.

    Flower does not know our authentication, and shows the payloads of every user. The password is made once, and kept
    in the data folder. A user that the operator has set (`FLOWER_BASIC_AUTH`, `FLOWER_AUTH`) stays. Variables of a
    service named `flower` are not options of Flower.
    """
    chosen = {name: text for name, text in common.items() if not is_service_variable(name, text)}
    if settings.access.on and not (environ.get("FLOWER_BASIC_AUTH") or environ.get("FLOWER_AUTH")):
        chosen["FLOWER_BASIC_AUTH"] = f"{FLOWER_USER}:{_flower_password(data_dir)}"
    return chosen


def _flower_password(data_dir: Path) -> str:
    path = data_dir / FLOWER_PASSWORD
    try:
        found = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        found = ""
    if not found:
        found = secrets.token_urlsafe(32)
        write_private(path, found + "\n")
    return found


def _flower_command(port: int) -> tuple[str, ...]:
    """Return Flower's command line. It listens on loopback only."""
    if find_spec("flower") is None:
        raise SettingsError("Flower is not installed: run pip install 'celeriac[flower]'")
    address = ("--address=127.0.0.1", f"--port={port}")
    return (sys.executable, "-m", "celery", "-A", "celeriac_tasks", "flower", *address)


def user_commands(
    processes: Mapping[str, str], services: Mapping[str, GrpcService], *, taken: set[str]
) -> dict[str, tuple[str, ...]]:
    """Return the command lines of the operator's own programs (`up.processes`), which run without a shell.

    Raises `SettingsError` for the name of one of our own roles, for a command line that cannot be parsed, and for the
    port of a service that has none.
    """
    commands = {}
    for name, text in processes.items():
        if name in taken or name == "up":
            raise SettingsError(
                f"up.processes.{name}: {name!r} is the name of one of Celeriac's own processes: choose another"
            )
        try:
            words = shlex.split(text)
        except ValueError as exc:
            raise SettingsError(f"up.processes.{name}: {text!r} cannot be parsed: {exc}") from exc
        if not words:
            raise SettingsError(f"up.processes.{name}: the command line is empty")
        words[0] = _program(words[0])
        commands[name] = tuple(_with_ports(word, name, services) for word in words)
    return commands


def _program(name: str) -> str:
    """Return where a program is: beside the Python that runs this, if it is there, or where `PATH` says."""
    if name in ("python", "python3"):
        return sys.executable
    beside = Path(sys.executable).parent / name
    return str(beside) if "/" not in name and os.access(beside, os.X_OK) else name


def executor_places(
    processes: Mapping[str, str], services: Mapping[str, GrpcService]
) -> dict[tuple[str, int], tuple[str, str]]:
    """Return where the operator's programs will listen: host and port → the names of the program and the service."""
    return {
        _place(services, name, service): (name, service)
        for name, text in processes.items()
        for service in _PORT_OF.findall(text)
    }


def _with_ports(word: str, name: str, services: Mapping[str, GrpcService]) -> str:
    return _PORT_OF.sub(lambda found: str(_place(services, name, found[1])[1]), word)


def _place(services: Mapping[str, GrpcService], name: str, service: str) -> tuple[str, int]:
    """Return host and port of the service that the program `name` refers to; raises `SettingsError`."""
    if service not in services:
        there = ", ".join(sorted(services)) or "none"
        raise SettingsError(f"up.processes.{name}: there is no gRPC service {service!r}; known are: {there}")
    hosts = read_address(services[service].address).hosts
    if len(hosts) != 1:
        raise SettingsError(f"up.processes.{name}: the gRPC service {service!r} needs an address with exactly one port")
    return hosts[0]
