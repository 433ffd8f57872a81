"""What a worker and the child process of a processor say to each other.

The worker writes one `Request` as JSON to the child's standard input and closes it. The child writes
lines of JSON, each an array, to its standard output:

    ["progress", percentage, stage, message]     any number
    ["done", [output name, ...], facts]          at the end, or
    ["failed", code, message, retryable]
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Final

from celeriac.tasks.types.processors import JobLimits

#: Longest line of a child (bytes): what facts may be.
MAX_LINE: Final = 1024 * 1024


@dataclass(frozen=True)
class Request:
    """What the child is to do: `target` is `module:name`, `source` and `folder` are absolute paths."""

    processor: str
    target: str
    options: dict[str, Any]
    source: str
    folder: str
    limits: JobLimits
    parent_pid: int

    def encode(self) -> bytes:
        """Return it as JSON; file names that are not UTF-8 survive (as surrogates, escaped)."""
        return json.dumps(dataclasses.asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, text: bytes) -> Request:
        """Return what `encode` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "limits": JobLimits(**fields["limits"])})


@dataclass(frozen=True)
class Done:
    """A run that succeeded: names of the files in its folder, the result first, and its facts."""

    outputs: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A run that failed in an orderly way."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True)
class Reported:
    """A progress report."""

    percentage: float
    stage: str
    message: str


def encode_line(kind: str, *values: Any) -> bytes:
    """Return a line of the child; raises `ValueError` or `TypeError` for what is not JSON, or too long."""
    line = json.dumps([kind, *values], allow_nan=False).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError(f"the facts are {len(line)} bytes as JSON, above the limit of {MAX_LINE}: write a file")
    return line


def decode_line(line: bytes) -> Done | Failed | Reported:
    """Return what the child said; raises `ValueError` for what it cannot have said."""
    match json.loads(line):
        case ["progress", float() | int() as percentage, str() as stage, str() as message]:
            return Reported(float(percentage), stage, message)
        case ["done", [*names], dict() as facts] if all(isinstance(name, str) for name in names):
            return Done(tuple(names), facts)
        case ["failed", str() as code, str() as message, bool() as retryable]:
            return Failed(code, message, retryable)
    raise ValueError("a line of the child makes no sense")
