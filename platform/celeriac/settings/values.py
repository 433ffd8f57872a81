"""The types that settings are made of: durations, sizes, and sections, which refuse unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

#: The name of a worker group.
GROUP_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

_NUMBER: Final = r"\s*([0-9]+(?:\.[0-9]+)?)\s*"
_SECONDS = re.compile(_NUMBER)
#: One number for each unit, the largest unit first; each may be left out.
_UNITS_S: Final = {"d": 86400.0, "h": 3600.0, "m(?!s)": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile("".join(f"(?:{_NUMBER}{unit})?" for unit in _UNITS_S) + r"\s*")
_DURATION_FORMS: Final = "500ms, 30s, 10m, 1h, 7d, 1h30m or plain seconds"
#: Longest duration in seconds, a hundred years: milliseconds and times computed from it stay in range everywhere.
MAX_DURATION_S: Final = 100 * 366 * 86400.0
_SIZE = re.compile(r"\s*([0-9]+)\s*(B|KiB|MiB|GiB)?\s*", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, None: 1}
#: An error shows this many characters of a wrong value.
_SHOWN: Final = 100


def parse_duration_s(value: Any) -> Any:
    """Return `500ms`, `30s`, `10m`, `1h`, `7d`, a sum such as `1h30m`, or plain seconds in seconds.

    Raises `ValueError` for other texts and for booleans. Values of other types are returned as they are: the model
    that they are for checks them.
    """
    if isinstance(value, bool):
        raise ValueError(_not_a("duration", str(value).lower(), _DURATION_FORMS))
    if not isinstance(value, str):
        return value
    if _SECONDS.fullmatch(value):
        return float(value)
    match = _DURATION.fullmatch(value)
    if match is None or match.lastindex is None:
        raise ValueError(_not_a("duration", repr(value[:_SHOWN]), _DURATION_FORMS))
    return sum(float(number) * unit_s for number, unit_s in zip(match.groups("0"), _UNITS_S.values(), strict=True))


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


#: Seconds; written `500ms`, `30s`, `10m`, `1h`, `7d`, `1h30m` or as a plain number of seconds; a hundred years at most.
Duration = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=MAX_DURATION_S)]
#: Bytes; written `512KiB`, `10MiB`, `1GiB` or as a plain number.
Size = Annotated[int, BeforeValidator(parse_size_bytes), Field(ge=0)]


class Section(BaseModel):
    """A group of settings: immutable, and without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _names_of(value: Any) -> Any:
    """Return names that are separated by commas as a list; anything else is returned as it is."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


#: Some names: a list, or one text with commas between them.
Names = Annotated[list[str], BeforeValidator(_names_of)]
