"""Which uploads are taken: how large, how many, of which types."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

from celeriac.errors import FileTypeRefusedError, PayloadTooLargeError, StorageFullError
from celeriac.files.names import media_type_of
from celeriac.settings import FilesSettings

#: What a client says that does not know, or does not care.
_UNKNOWN: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"}
)


def check_size(size: int, settings: FilesSettings) -> None:
    """Raise `PayloadTooLargeError` for a file above the limit."""
    if size > settings.max_upload_bytes:
        raise PayloadTooLargeError("the file", size, settings.max_upload_bytes)


def check_room(used_bytes: int, uploads: int, wanted_bytes: int, settings: FilesSettings) -> None:
    """Raise `StorageFullError` where `wanted_bytes` on top of what there is would be too much."""
    if uploads >= settings.max_uploads:
        raise StorageFullError(f"there are {uploads} uploads that no task has taken, which is the limit")
    if used_bytes + wanted_bytes > settings.upload_quota:
        raise StorageFullError(
            f"the uploads take {used_bytes} bytes; {wanted_bytes} more exceed their quota of {settings.upload_quota}"
        )


def check_type(name: str, declared: str, settings: FilesSettings) -> str:
    """Return the media type of an upload; raises `FileTypeRefusedError` where it is not taken.

    Both what the client declares and what the extension stands for must be taken, as far as they say anything.
    """
    declared = declared.partition(";")[0].strip().lower()
    said = [kind for kind in (declared, media_type_of(name)) if kind and kind not in _UNKNOWN]
    for kind in said or ["application/octet-stream"]:
        if not any(pattern in ("*", "*/*") or fnmatchcase(kind, pattern.lower()) for pattern in settings.upload_types):
            raise FileTypeRefusedError(f"uploads of type {kind} are not taken; {', '.join(settings.upload_types)} are")
    return said[0] if said else "application/octet-stream"
