"""Files that only their owner may read, and that are never seen half-written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Create `path`, for its owner only (0700), and what lacks above it; an existing one stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        path.mkdir(exist_ok=True)  # raises unless it is a folder
    else:
        path.chmod(0o700)  # whatever the umask is


def close_to_others(folder: Path, names: Iterable[str]) -> None:
    """Take the permissions of other users from what an earlier version made in `folder`; the folder stays as it is."""
    for name in names:
        for path in folder.glob(name):
            mode = path.lstat().st_mode
            if mode & 0o077 and not path.is_symlink():
                with suppress(PermissionError):  # the user who owns it decides
                    path.chmod(mode & 0o700)


def write_private(path: Path, text: str) -> None:
    """Put `text` in place of `path` atomically, with mode 0600; readers see the old or the new content."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(handle, 0o600)  # whatever the umask is
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
