"""The keys of published calls: from a header, or from the `key` of the Celery task."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.limits.rules import MAX_COST
from celeriac.tasks.key_source import KeySource, PayloadFunction, PayloadPath, as_key, plain_source

log = logging.getLogger(__name__)

#: Headers of a call: `apply_async(headers={"celeriac_key": "c7", "celeriac_cost": 5})`.
KEY, COST = "celeriac_key", "celeriac_cost"
_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class ArgumentsFunction:
    """Computes the key from the arguments of a call by name, those with defaults included."""

    function: Callable[[Any], Any]
    run: Callable[..., Any]

    @property
    def place(self) -> str:
        """See `KeySource.place`."""
        return PayloadFunction(self.function).place

    def found(self, payload: Mapping[str, Any], value: Any) -> Any:
        """See `KeySource.found`."""
        bound = inspect.signature(self.run).bind(*payload.get("args", ()), **payload.get("kwargs", {}))
        bound.apply_defaults()
        return self.function(dict(bound.arguments))


def key_of_task(task: Any) -> KeySource | None:
    """Return what reads the keys of a plain Celery task from `{"args": [...], "kwargs": {...}}`.

    It is what `@app.task(key=...)` says: the name of a parameter, with a path below it, or a function that gets the
    arguments by name. An attribute `key` that is anything else is the project's own.
    """
    given = inspect.getattr_static(task, "key", None)
    source = plain_source(given.__func__ if isinstance(given, staticmethod) else given)
    if isinstance(source, PayloadFunction):
        return ArgumentsFunction(source.function, task.run)
    if not isinstance(source, PayloadPath):
        return None
    (path,) = source.paths
    name, dot, rest = path.partition(".")
    paths, default, is_known = [f"kwargs.{path}"], None, False
    for place, parameter in enumerate(inspect.signature(task.run).parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            is_known = True
        if parameter.name != name:
            continue
        is_known = True
        if parameter.kind in _BY_PLACE:
            paths.append(f"args.{place}{dot}{rest}")
        if not dot and isinstance(parameter.default, str | int):
            default = parameter.default
    if not is_known:
        log.warning("the task %s has no keys: key=%r does not begin with one of its parameters", task.name, path)
        return None
    return PayloadPath(tuple(paths), default)


def key_in(headers: Mapping[str, Any]) -> str | None:
    """Return the key that a caller gives a call; raises `InvalidSubmissionError`."""
    try:
        return as_key(headers.get(KEY))
    except ValueError as exc:
        raise InvalidSubmissionError([Violation(KEY, str(exc))]) from exc


def cost_in(headers: Mapping[str, Any]) -> int | None:
    """Return the cost that a caller gives a call; raises `InvalidSubmissionError`."""
    cost = headers.get(COST)
    if cost is None or (type(cost) is int and 1 <= cost <= MAX_COST):
        return cost
    raise InvalidSubmissionError([Violation(COST, f"is {cost!r:.100}: it must be from 1 to {MAX_COST}")])
