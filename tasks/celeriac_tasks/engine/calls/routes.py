"""Where a message of an exchange goes, by the queues that the app knows.

Only the broker knows all bindings of an exchange. So what is found here is certain only if it is one queue, or if the
exchange sends everything to everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

#: The type of an exchange that copies each message to all its queues (`kombu.common.Broadcast`).
FANOUT: Final = "fanout"


def type_of(queues: Iterable[Any], exchange: str) -> str | None:
    """Return the type of an exchange to which one of these `queues` (`kombu.Queue`) is bound, else None."""
    if not exchange:
        return None
    return next((bound.type for queue in queues for bound, _ in _bindings(queue) if bound.name == exchange), None)


def queues_of(queues: Iterable[Any], exchange: str, routing_key: str) -> list[str]:
    """Return the names of those of these `queues` that get a message with this address."""
    if not exchange:
        return [routing_key] if routing_key else []
    return [
        queue.name
        for queue in queues
        if any(bound.name == exchange and _accepts(bound.type, key, routing_key) for bound, key in _bindings(queue))
    ]


def matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether the words of a routing key fit a pattern: `*` stands for one word, `#` for any number of them."""
    if not pattern:
        return not words
    first, *rest = pattern
    if first == "#":
        return any(matches(rest, words[count:]) for count in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and matches(rest, words[1:])


def _accepts(kind: str, key: str, routing_key: str) -> bool:
    match kind:
        case "fanout":
            return True
        case "direct":
            return key == routing_key
        case "topic":
            return matches(key.split("."), routing_key.split("."))
        case _:
            return False


def _bindings(queue: Any) -> Iterator[tuple[Any, str]]:
    """Yield the exchanges of a queue, each with its routing key."""
    if queue.exchange is not None:
        yield queue.exchange, queue.routing_key or ""
    for binding in queue.bindings or ():
        yield binding.exchange, binding.routing_key or ""
