"""The files of the pages, held in memory: they are part of the program, and change only with it."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

#: By file name extension; no other file is served.
MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
#: Below this compression saves no packet (bytes).
_WORTH_COMPRESSING: Final = 1024


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `etag` is a strong validator of `body`, `gzipped` the same compressed, where that is worth it."""

    body: bytes
    gzipped: bytes | None
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """Return every file below `static/` by its path in there."""
    return dict(sorted(_walk(files("celeriac_api.pages") / "static", "")))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif (media_type := MEDIA_TYPES.get(entry.name.rpartition(".")[2])) is not None:
            found.append((prefix + entry.name, _asset(entry.read_bytes(), media_type)))
    return found


def _asset(body: bytes, media_type: str) -> Asset:
    # Without a time in its header the compressed form is the same in every process.
    small = gzip.compress(body, 6, mtime=0) if len(body) >= _WORTH_COMPRESSING and media_type != "image/png" else None
    return Asset(body, small, media_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
