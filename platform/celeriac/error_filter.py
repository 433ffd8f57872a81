"""What a list of errors selects and how it is sorted, for all front doors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Groups of one page at most, and by default.
MAX_ERRORS: Final = 100
DEFAULT_ERRORS: Final = 20
#: At most this many buckets for the failures of a group over time.
ERROR_BUCKETS: Final = 60


class ErrorSort(StrEnum):
    """What a list of errors is sorted by: the last failure, or the number of failures."""

    LAST = "-last_seen"
    FAILURES = "-failures"


@dataclass(frozen=True, slots=True)
class ErrorFilter:
    """Selects the failures that meet every condition that is given."""

    type: str | None = None
    queue: str | None = None
    user_id: str | None = None
    key: str | None = None
    error_group: str | None = None
    #: A part of the code or of the normalised message, in any case.
    q: str | None = None
