"""`DATA_DIR/run.json`: where a running `celeriac up` is, for the other commands and for scripts.

It holds the store's password, so it is for its owner only; it exists while `up` runs.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from celeriac import json_text
from celeriac.installation.private_file import write_private

NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Installation:
    """A running `celeriac up`: its addresses as URLs and its processes."""

    http: str
    grpc: str
    redis: str
    database: str
    version: str
    #: Process id of `up` itself.
    pid: int
    #: RFC 3339.
    started_at: str
    #: When it was ready first, RFC 3339: the API answered and a worker was there. None until then.
    ready_at: str | None = None
    #: The configuration file in use, absolute; None if there is none.
    config: str | None = None
    #: Root of the storage of files, absolute.
    storage: str | None = None
    #: Tells with which secret tokens are checked (`secret_mark`), and nothing about that secret.
    token_secret: str | None = None
    #: Children: role → process id.
    pids: dict[str, int] = field(default_factory=dict)


def write_installation(data_dir: Path, installation: Installation) -> None:
    """Put `installation` in the run file, atomically and readable by its owner only."""
    write_private(data_dir / NAME, json_text.write(asdict(installation), indent=True) + "\n")


def read_installation(data_dir: Path) -> Installation | None:
    """Return what the run file says, also of an `up` that was killed; None without a usable file."""
    try:
        content = json_text.read((data_dir / NAME).read_text(encoding="utf-8"))
        known = {name: content[name] for name in Installation.__slots__ if name in content}
        installation = Installation(**known)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return installation


def remove_installation(data_dir: Path) -> None:
    """Take the run file away; without one there is nothing to do."""
    (data_dir / NAME).unlink(missing_ok=True)


def find_installation(data_dir: Path) -> Installation | None:
    """Return the `up` that runs on `data_dir`, or None: there is none, or it is dead."""
    installation = read_installation(data_dir)
    return installation if installation is not None and is_alive(installation.pid) else None


def is_alive(pid: int) -> bool:
    """Say whether a process of this id exists (also one of another user, or one not yet reaped)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
