"""Checks the size, number and types of uploads."""

from __future__ import annotations

from dataclasses import dataclass
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


#: An unfinished upload counts as so many bytes more than have arrived, within its length.
ALLOWANCE: Final = 1024**2
#: How often the quotas are checked while a file arrives (bytes): at most and at least.
_LONGEST_STEP: Final = 64 * 1024**2
_SHORTEST_STEP: Final = 1024**2


@dataclass(slots=True)
class Usage:
    """What some uploads take that no task has taken over: bytes, and how many they are."""

    size: int = 0
    uploads: int = 0

    def add(self, size: int) -> None:
        """Count one more upload."""
        self.size += size
        self.uploads += 1


def counted_size(arrived: int, length: int | None) -> int:
    """Return the bytes that an unfinished upload counts for; what its client has only announced is not reserved."""
    return max(arrived, min(length or 0, arrived + ALLOWANCE))


def quota_step(settings: FilesSettings) -> int:
    """Return after how many bytes of a file the quotas are checked again."""
    quota = min(settings.upload_quota, settings.upload_quota_per_user)
    return min(max(quota // 100, _SHORTEST_STEP), _LONGEST_STEP)


def check_number(everyone: Usage, own: Usage | None, settings: FilesSettings) -> None:
    """Raise `StorageFullError` if there may not be one more upload; `own` are those of its user."""
    if everyone.uploads >= settings.max_uploads:
        number = everyone.uploads
        raise StorageFullError(f"there are {number} uploads without a task, which is the limit (files.max_uploads)")
    if own is not None and own.uploads >= settings.max_uploads_per_user:
        raise StorageFullError(
            f"you have {own.uploads} uploads without a task, which is the limit (files.max_uploads_per_user)"
        )


def check_room(everyone: Usage, own: Usage | None, wanted_bytes: int, settings: FilesSettings) -> None:
    """Raise `StorageFullError` if `wanted_bytes` more would exceed a quota; `own` are the uploads of the same user."""
    if everyone.size + wanted_bytes > settings.upload_quota:
        raise StorageFullError(
            f"the uploads take {everyone.size} bytes; {wanted_bytes} more exceed the quota of {settings.upload_quota}"
        )
    if own is not None and own.size + wanted_bytes > settings.upload_quota_per_user:
        quota = settings.upload_quota_per_user
        raise StorageFullError(
            f"your uploads take {own.size} bytes; {wanted_bytes} more exceed the quota of {quota} for one user"
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
