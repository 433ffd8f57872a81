"""Files that only their owner may read, and that are never seen half-written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Create `path`, for its owner only (0700), and what lacks above it; an existing one stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Put `text` in place of `path` atomically, with mode 0600; readers see the old or the new content."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
