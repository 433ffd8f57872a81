"""The types that settings are made of: durations, sizes, and sections, which refuse unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

#: The name of a worker group.
GROUP_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?\s*")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
#: Longest duration in seconds, a hundred years: milliseconds and times computed from it stay in range everywhere.
MAX_DURATION_S: Final = 100 * 366 * 86400.0
_SIZE = re.compile(r"\s*([0-9]+)\s*(B|KiB|MiB|GiB)?\s*", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, None: 1}
#: An error shows this many characters of a wrong value.
_SHOWN: Final = 100


def parse_duration_s(value: Any) -> Any:
    """Return `500ms`, `30s`, `10m`, `1h`, `7d` or plain seconds in seconds.

    Raises `ValueError` for other texts and for booleans. Values of other types are returned as they are: the model
    that they are for checks them.
    """
    if isinstance(value, bool):
        raise ValueError(_not_a("duration", str(value).lower(), "500ms, 30s, 10m, 1h, 7d or plain seconds"))
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(_not_a("duration", repr(value[:_SHOWN]), "500ms, 30s, 10m, 1h, 7d or plain seconds"))
    return float(match[1]) * _UNIT_S[match[2]]


def parse_size_bytes(value: Any) -> Any:
    """Return `512KiB`, `10MiB`, `1GiB` or plain bytes in bytes; raises `ValueError` for other texts."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(_not_a("size", repr(value[:_SHOWN]), "512KiB, 10MiB, 1GiB or plain bytes"))
    return int(match[1]) * _UNIT_BYTES[match[2] and match[2].lower()]


def _not_a(what: str, value: str, forms: str) -> str:
    return f"{value} is not a {what}: write {forms}"


#: Seconds; written `500ms`, `30s`, `10m`, `1h`, `7d` or as a plain number of seconds; a hundred years at most.
Duration = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=MAX_DURATION_S)]
#: Bytes; written `512KiB`, `10MiB`, `1GiB` or as a plain number.
Size = Annotated[int, BeforeValidator(parse_size_bytes), Field(ge=0)]


class Section(BaseModel):
    """A group of settings: immutable, and without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
