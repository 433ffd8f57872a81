"""The messages between a worker and the child process of a processor.

The worker writes one `Request` as JSON to the child's standard input and closes it. The child writes
lines to its standard output, each of them a JSON array:

    ["progress", percentage, stage, message]     any number of times, then one of
    ["done", [output name, ...], facts]
    ["failed", code, message, retryable, retry_after_s or null]
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Final

from celeriac.tasks.types.processors import JobLimits

#: The longest line of a child (bytes), which bounds the facts.
MAX_LINE: Final = 1024 * 1024


@dataclass(frozen=True)
class Request:
    """The work for a child: `target` is `module:name`, and `source` and `folder` are absolute paths."""

    processor: str
    target: str
    options: dict[str, Any]
    source: str
    folder: str
    limits: JobLimits
    parent_pid: int

    def encode(self) -> bytes:
        """Return the request as JSON; file names that are not UTF-8 are kept as escaped surrogates."""
        return json.dumps(dataclasses.asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, text: bytes) -> Request:
        """Return the request that `encode` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "limits": JobLimits(**fields["limits"])})


@dataclass(frozen=True)
class Done:
    """A successful run: the names of the files in its folder, the result first, and its facts."""

    outputs: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A failed run whose error the child reported."""

    code: str
    message: str
    retryable: bool
    #: When somebody else's service takes more (seconds from now), if that is why.
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Reported:
    """A progress report."""

    percentage: float
    stage: str
    message: str


def encode_line(kind: str, *values: Any) -> bytes:
    """Return a line of the child; raises `ValueError` or `TypeError` if the values are not JSON or too long."""
    line = json.dumps([kind, *values], allow_nan=False).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError(
            f"the facts are {len(line)} bytes as JSON, above the limit of {MAX_LINE}: write them to an output file"
        )
    return line


def decode_line(line: bytes) -> Done | Failed | Reported:
    """Return the message in a line of the child; raises `ValueError` for an invalid line."""
    match json.loads(line):
        case ["progress", float() | int() as percentage, str() as stage, str() as message]:
            return Reported(float(percentage), stage, message)
        case ["done", [*names], dict() as facts] if all(isinstance(name, str) for name in names):
            return Done(tuple(names), facts)
        case [
            "failed",
            str() as code,
            str() as message,
            bool() as retryable,
            (float() | int() | None) as retry_after_s,
        ]:
            return Failed(code, message, retryable, retry_after_s)
    raise ValueError("a line of the child is not a known message")
