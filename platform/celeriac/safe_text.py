"""Texts from elsewhere that are to be shown: without passwords, and without what steers a terminal.

Nothing here needs a library, so that a client or a remote worker can use it.
"""

from __future__ import annotations

import re

#: `scheme://user:password@`: the password is never written.
_URL_PASSWORD = re.compile(r"(\w://[^\s:/@\"]*:)[^\s/@\"]+@")
_BEARER = re.compile(r"(\bBearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
#: `password=…` within a text, quoted or not. A quote that ends a JSON text does not begin a value.
_ASSIGNED = re.compile(
    r"((?:passw(?:or)?d|passphrase|secret|token|authorization|(?:api|access|private|secret)[_-]?key|credentials?)=)"
    r"(?:(\\?\"(?![\s:,}\]])|')[^\"'\\]+|(?:(?:Basic|Bearer|Token)\s+)?[^\s\"'\\&;,)\]}]+)",
    re.IGNORECASE,
)

#: An id that the platform made.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Line ends, control characters except tabs, and characters that change the direction of text.
_STEERING = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def redact(text: str) -> str:
    """Return `text` without passwords of URLs, bearer tokens, and values in the form `password=…` or `token=…`."""
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\1***@", text)
    if "=" in text:
        text = _ASSIGNED.sub(lambda found: f"{found[1]}{found[2] or ''}***", text)
    if "bearer" in text.lower():
        text = _BEARER.sub(r"\1***", text)
    return text


def escaped(text: str) -> str:
    """Return `text` on one line, with escapes in place of characters that steer a terminal."""
    return text if text.isprintable() else _STEERING.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def short_id(task_id: str) -> str:
    """Return the first eight characters of an id that the platform made; callers' own ids stay whole."""
    return task_id[:8] if _UUID.fullmatch(task_id) else task_id
