"""The prefix of an installation's keys and channels: what it may be."""

from __future__ import annotations

import re
from typing import Final

#: The longest prefix (characters); each key has it.
MAX_LENGTH: Final = 64
#: What Celeriac's and kombu's own keys begin with: another installation on the server may have no prefix.
RESERVED: Final = ("celeriac:", "task:", "unacked", "_kombu")
_ALLOWED: Final = re.compile(r"[A-Za-z0-9{}:._/@+=,#-]*")
_HASH_TAG: Final = re.compile(r"[^{}]*(?:\{[^{}]+\}[^{}]*)?")


def check_key_prefix(prefix: str) -> str:
    """Return the prefix; raises `ValueError` if keys cannot have it."""
    if len(prefix) > MAX_LENGTH:
        raise ValueError(f"has {len(prefix)} characters, which each key would have; use at most {MAX_LENGTH}")
    if not _ALLOWED.fullmatch(prefix):
        wrong = next(char for char in prefix if not _ALLOWED.fullmatch(char))
        raise ValueError(f"{prefix!r} contains {wrong!r}; use letters, digits and : . _ - / @ + = , # {{ }}")
    if not _HASH_TAG.fullmatch(prefix):
        raise ValueError(f"{prefix!r} needs one pair of braces with a text in it, as in {{celeriac}}:, or no braces")
    if prefix.startswith(RESERVED):
        names = ", ".join(RESERVED)
        raise ValueError(f"{prefix!r} begins like keys of an installation without a prefix ({names}); choose another")
    return prefix
