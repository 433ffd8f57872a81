"""The types that settings are made of: durations, sizes, and sections, which refuse unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from celeriac.durations import not_a, parse_duration_s

#: The name of a worker group.
GROUP_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

#: Longest duration in seconds, a hundred years: milliseconds and times computed from it stay in range everywhere.
MAX_DURATION_S: Final = 100 * 366 * 86400.0
_SIZE = re.compile(r"\s*([0-9]+)\s*(B|KiB|MiB|GiB)?\s*", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, None: 1}
#: An error shows this many characters of a wrong value.
_SHOWN: Final = 100


def parse_size_bytes(value: Any) -> Any:
    """Return `512KiB`, `10MiB`, `1GiB` or plain bytes in bytes; raises `ValueError` for other texts."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(not_a("size", repr(value[:_SHOWN]), "512KiB, 10MiB, 1GiB or plain bytes"))
    return int(match[1]) * _UNIT_BYTES[match[2] and match[2].lower()]


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


#: What makes a setting that is a list take one text with commas too: variables of the environment are texts.
OR_COMMAS: Final = BeforeValidator(_names_of)

#: Some names.
Names = Annotated[list[str], OR_COMMAS]
