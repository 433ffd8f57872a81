"""What an operation may ask of the outside world, and how: the border between thinking and doing.

An operation is a generator that yields steps. Whoever drives it (`wire.py`) performs each step and
sends back what came of it, or throws `LostConnectionError` in where a connection failed. So retries,
paging and reconnection are written, and can be tested, without a network and for both clients at once.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeAlias, TypeVar

T = TypeVar("T")
E = TypeVar("E")


class LostConnectionError(Exception):
    """No answer, or not all of it: whether the server acted on the request is not known."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `path` is below the API's address; `body` is JSON."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; names of headers are lower case. Of an opened stream, `body` is empty."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send the call; comes back with the answer."""

    call: Call


@dataclass(frozen=True, slots=True)
class Open:
    """Send the call; where it is answered with 200, leave the body to be read. Closes what was open before."""

    call: Call


@dataclass(frozen=True, slots=True)
class Read:
    """Read on in what was opened; comes back with some bytes, `b""` at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit(Generic[E]):
    """Hand an item to whoever iterates."""

    item: E


Step: TypeAlias = Send | Open | Read | Pause
#: An operation with one outcome.
Steps: TypeAlias = Generator[Step, Any, T]
#: An operation with many.
Stream: TypeAlias = Generator[Step | Emit[E], Any, None]


class Conversation(Generic[T]):
    """An operation as an iterator of its steps, for whoever performs them.

    Put what came of a step (a `LostConnectionError` included) in `came` before asking for the next one;
    after the last one `outcome` is what the operation returned.
    """

    def __init__(self, operation: Generator[Any, Any, T]) -> None:
        self._operation = operation
        self.came: object = None
        self.outcome: T

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        came, self.came = self.came, None
        try:
            if isinstance(came, LostConnectionError):
                return self._operation.throw(came)
            return self._operation.send(came)
        except StopIteration as end:
            self.outcome = end.value
            raise


def send(call: Call) -> Steps[Answer]:
    """Send `call`; raises `LostConnectionError`."""
    answer = yield Send(call)
    assert isinstance(answer, Answer)
    return answer


def open_stream(call: Call) -> Steps[Answer]:
    """Send `call` and leave its body to be read; raises `LostConnectionError`."""
    answer = yield Open(call)
    assert isinstance(answer, Answer)
    return answer


def read() -> Steps[bytes]:
    """Read on; raises `LostConnectionError`."""
    chunk = yield Read()
    assert isinstance(chunk, bytes)
    return chunk
