"""Which failures are alike: the same type, code and message, whatever values the message names. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

#: How much of a message counts, and how much of the result is kept (characters).
_READ: Final = 2_000
_KEPT: Final = 400

#: What stands for a value, and how such a value is written. At one place, the first that fits wins. Repetitions are
#: bounded, so that a hostile message costs no more than its length.
_VALUES: Final = {
    "url": r"[A-Za-z][A-Za-z0-9+.-]{1,20}://\S+",
    "email": r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+",
    "id": r"(?<!\w)[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?!\w)",
    "time": (
        r"(?<!\d)\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
        r"|(?<!\d)\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?!\d)"
    ),
    # A quote inside a word is an apostrophe.
    "value": r"(?<!\w)(?:'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`|“[^”\n]*”|‘[^’\n]*’|「[^」\n]*」)(?!\w)",
    "address": (
        r"0x[0-9a-fA-F]+"
        r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?![\w.]\d)"
        r"|(?<![\w:])\[?(?:[0-9a-fA-F]{1,4}:{1,2}){2,7}[0-9a-fA-F]{0,4}\]?(?::\d{1,5})?(?![\w:])"
        r"|(?<![\w.-])(?:localhost|[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}):\d{2,5}(?!\w)"
    ),
    "path": r"(?<![\w<>/.])(?:~|\.{1,2})?/[\w.@%+~-]+(?:/[\w.@%+~-]*)*|(?<!\w)[A-Za-z]:\\\S+",
    # Long words in which letters and digits are mixed.
    "code": (
        r"(?<![\w-])(?=\d{0,40}[^\W\d]|\d{0,40}-)"
        r"(?:(?=[a-fA-F]{0,40}\d)[0-9a-fA-F]{8,}|(?=(?:[\w-]{0,40}?\d){4})[\w-]{16,})(?![\w-])"
    ),
    "n": r"(?<![A-Za-z])\d+(?:[.,]\d+)*",
}
_NAMES: Final = {"code": "id"}
_VALUE: Final = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _VALUES.items()))
_SPACE: Final = re.compile(r"\s+")


@lru_cache(maxsize=2048)
def normalised(message: str) -> str:
    """Return a message with its values replaced: ids, numbers, quoted values, addresses, paths and times.

    For example `order 1017 of 'ada' not found` becomes `order <n> of <value> not found`.
    """
    # Cut at a fixed place before anything else, so that messages that differ behind it are alike.
    replaced = _VALUE.sub(_name_of, message[:_READ])
    return _SPACE.sub(" ", replaced).strip()[:_KEPT]


def error_group_of(task_type: str, code: str | None, message: str | None) -> str:
    """Return the fingerprint of a failure: 16 hexadecimal digits, the same for failures that are alike."""
    parts = (task_type, code or "", normalised(message or ""))
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _name_of(found: re.Match[str]) -> str:
    assert found.lastgroup is not None
    return f"<{_NAMES.get(found.lastgroup, found.lastgroup)}>"
