"""Names and media types of files that clients named. Only the extension of such a name becomes part of a path."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from pathlib import PurePosixPath
from typing import Final

_EXTENSION: Final = re.compile(r"\.[a-z0-9]{1,10}")
#: The longest file name that is kept for display (characters).
_MAX_NAME: Final = 200

#: Types that Python's own table lacks, or that differ between systems.
_TYPES: Final = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".ts": "video/mp2t",
    ".flv": "video/x-flv",
    ".wmv": "video/x-ms-wmv",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".zst": "application/zstd",
    ".gz": "application/gzip",
}


def media_type_of(name: str) -> str | None:
    """Return the media type for the extension of a file, or None."""
    extension = PurePosixPath(name).suffix.lower()
    return _TYPES.get(extension) or mimetypes.guess_type(f"x{extension}", strict=True)[0]


def safe_extension(name: str) -> str:
    """Return the extension of `name` with its dot, in lower case; "" unless it is plain letters and digits."""
    extension = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    return extension if _EXTENSION.fullmatch(extension) else ""


def original_name(name: str, *, unknown: str) -> str:
    """Return the name in the task's folder for an original with this name.

    A video is always `original.mp4`, whatever its container (docs/task-service.md). Pictures and sound keep their
    extension. All other files get the extension `unknown`, or keep their own if `unknown` is "".
    """
    kind = (media_type_of(name) or "").partition("/")[0]
    if kind == "video":
        return "original.mp4"
    extension = safe_extension(name)
    if kind in ("image", "audio") and extension:
        return f"original{extension}"
    return f"original{unknown or extension or '.bin'}"


def display_name(name: str) -> str:
    """Return the last part of a client's file name, safe to show and to send back; "" if nothing is left."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(c for c in unicodedata.normalize("NFC", last) if c.isprintable())
    text = printable.encode("utf-8", "replace").decode().strip().lstrip(".")
    if len(text) <= _MAX_NAME:
        return text
    extension = safe_extension(text)
    return text[: _MAX_NAME - len(extension)] + extension
