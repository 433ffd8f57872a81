"""The digests that a client sends along with a file, in all their spellings."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from starlette.datastructures import Headers

from celeriac.errors import ChecksumMismatchError, Violation
from celeriac_api.http.problems import RequestError

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_STRUCTURED: Final = re.compile(r"sha-256\s*=\s*:([A-Za-z0-9+/=]*):", re.IGNORECASE)
_PLAIN: Final = re.compile(r"sha-256\s*=\s*([A-Za-z0-9+/=]+)", re.IGNORECASE)


def of_file(headers: Headers) -> bytes | None:
    """Return the sha-256 that the file must have, or None.

    The headers are `X-Checksum-Sha256` (hexadecimal), `Repr-Digest` (RFC 9530) and `Digest` (RFC 3230).
    """
    if (text := headers.get("x-checksum-sha256")) is not None:
        if _HEX.fullmatch(text.strip()) is None:
            raise _unreadable("X-Checksum-Sha256", "must be 64 hexadecimal digits")
        return bytes.fromhex(text.strip())
    return _one(headers, "Repr-Digest", _STRUCTURED) or _one(headers, "Digest", _PLAIN)


def of_body(headers: Headers) -> bytes | None:
    """Return the sha-256 that the body as sent must have: `Content-Digest` (RFC 9530)."""
    return _one(headers, "Content-Digest", _STRUCTURED)


def check(found: bytes, expected: bytes | None) -> None:
    """Raise `ChecksumMismatchError` if a digest is expected and it is another one."""
    if expected is not None and found != expected:
        raise ChecksumMismatchError(
            f"what arrived has the sha-256 {found.hex()}, not {expected.hex()}; it was not kept: send it again"
        )


def _one(headers: Headers, name: str, pattern: re.Pattern[str]) -> bytes | None:
    text = headers.get(name)
    if text is None:
        return None
    match = pattern.search(text)
    if match is None:
        return None  # only other algorithms, so there is nothing to compare
    try:
        digest = base64.b64decode(match[1], validate=True)
    except binascii.Error as exc:
        raise _unreadable(name, "is not base64") from exc
    if len(digest) != 32:
        raise _unreadable(name, "is not a sha-256")
    return digest


def _unreadable(name: str, message: str) -> RequestError:
    return RequestError("invalid_header", f"{name} {message}", [Violation(name, message)])
