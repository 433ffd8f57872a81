"""Checks the size, number and types of uploads."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

from celeriac.errors import FileTypeRefusedError, PayloadTooLargeError, StorageFullError
from celeriac.files.names import media_type_of
from celeriac.settings import FilesSettings

#: Media types that a client sends if it does not know the type.
_UNKNOWN: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"}
)


def check_size(size: int, settings: FilesSettings) -> None:
    """Raise `PayloadTooLargeError` for a file above the limit."""
    if size > settings.max_upload_bytes:
        raise PayloadTooLargeError("the file", size, settings.max_upload_bytes)


def check_room(used_bytes: int, uploads: int, wanted_bytes: int, settings: FilesSettings) -> None:
    """Raise `StorageFullError` if `wanted_bytes` more would exceed the limits of the upload area."""
    if uploads >= settings.max_uploads:
        raise StorageFullError(f"there are {uploads} uploads without a task, which is the limit (files.max_uploads)")
    if used_bytes + wanted_bytes > settings.upload_quota:
        raise StorageFullError(
            f"the uploads take {used_bytes} bytes; {wanted_bytes} more exceed the quota of {settings.upload_quota}"
        )


def check_type(name: str, declared: str, settings: FilesSettings) -> str:
    """Return the media type of an upload; raises `FileTypeRefusedError` if it is not accepted.

    The type that the client declares and the type of the extension must both be accepted, as far as they are known.
    """
    declared = declared.partition(";")[0].strip().lower()
    said = [kind for kind in (declared, media_type_of(name)) if kind and kind not in _UNKNOWN]
    for kind in said or ["application/octet-stream"]:
        if not any(pattern in ("*", "*/*") or fnmatchcase(kind, pattern.lower()) for pattern in settings.upload_types):
            accepted = ", ".join(settings.upload_types)
            raise FileTypeRefusedError(f"uploads of type {kind} are not accepted; use one of: {accepted}")
    return said[0] if said else "application/octet-stream"
