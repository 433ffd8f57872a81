"""Values that a result backend has to keep, by name."""

from __future__ import annotations

import enum
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any


@dataclass
class Box:
    """A plain dataclass."""

    width: int
    label: str


class Level(enum.IntEnum):
    """Numbers with names."""

    HIGH = 3


class Mood(enum.Enum):
    """Not JSON by itself."""

    CALM = "calm"


Pair = namedtuple("Pair", "left right")

VALUES: dict[str, Any] = {
    "naive": datetime(2026, 1, 2, 3, 4, 5, 678),
    "aware": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "zoned": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    "date": date(2026, 1, 2),
    "time": time(3, 4, 5),
    "delta": timedelta(seconds=90),
    "decimal": Decimal("1.10"),
    "uuid": uuid.UUID(int=7),
    "bytes": b"\x00\xffabc",
    "text bytes": b"abc",
    "big": 2**200 + 1,
    "negative big": -(2**70),
    "float": 0.1 + 0.2,
    "whole float": 3.0,
    "tiny": 5e-324,
    "infinity": float("inf"),
    "tuple": (1, (2, 3)),
    "set": {1},
    "frozen": frozenset([1]),
    "named": Pair(1, 2),
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "number keys": {1: "a", 2.5: "b", None: "c"},
    "nested": {"a": [{"b": (1, {"c": [None, True]})}]},
    "empty": [[], {}, "", 0, None, False],
    "unicode": "ä€😀\u2028\x00",
    "surrogate": "\ud83d",
    "box": Box(1, "x"),
    "level": Level.HIGH,
    "mood": Mood.CALM,
    "complex": 1 + 2j,
    "exception": ValueError("a value"),
    "object": object(),
    "class": Box,
    "generator": (n for n in range(3)),
    "range": range(3),
    "typed list": [datetime(2026, 1, 2), Decimal("2"), uuid.UUID(int=1), b"x"],
    "long": "x" * 200_000,
    "deep": [[[[[[[[[[1]]]]]]]]]],
    "marked": {"__type__": "datetime", "__value__": "2026-01-02"},
}
