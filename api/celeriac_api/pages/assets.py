"""The files of the pages. They are held in memory, because they change only with the program."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

#: Media types by file name extension. No other file is served.
MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
}
#: Compressing a smaller file does not save a packet (bytes).
_WORTH_COMPRESSING: Final = 1024


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `etag` is a strong validator of `body`; `gzipped` is the compressed body, if that is worth it."""

    body: bytes
    gzipped: bytes | None
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """Return every file below `static/` by its path."""
    return dict(sorted(_walk(files("celeriac_api.pages") / "static", "")))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif (media_type := MEDIA_TYPES.get(entry.name.rpartition(".")[2])) is not None:
            found.append((prefix + entry.name, asset(entry.read_bytes(), media_type)))
    return found


def asset(body: bytes, media_type: str) -> Asset:
    """Return `body` as a file."""
    # Without a time in the gzip header the compressed body is the same in every process.
    small = gzip.compress(body, 9, mtime=0) if len(body) >= _WORTH_COMPRESSING and media_type != "image/png" else None
    return Asset(body, small, media_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
