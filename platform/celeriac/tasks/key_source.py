"""Where the keys of a type's tasks come from: a path of the payload, or a function of it. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from pydantic import PydanticUserError, TypeAdapter

from celeriac.errors import InvalidSubmissionError, SettingsError, Violation
from celeriac.limits.rules import check_key
from celeriac.secret_fields import secret_paths
from celeriac.violations import suggested

#: What `@task(key=...)` takes: a dotted path of the payload (`"customer"`, `"order.customer"`), or a function of the
#: validated payload that returns a text, a whole number, or None for no key.
KeyOf: TypeAlias = str | Callable[[Any], str | int | None]

#: How deep a schema is looked into: some refer to themselves.
_DEPTH: Final = 8
#: Longest text of an error of a project's function (characters).
_SHOWN: Final = 500


class KeySource(Protocol):
    """Reads the keys of tasks from their payloads."""

    @property
    def place(self) -> str:
        """What errors call it."""

    def found(self, payload: Mapping[str, Any], value: Any) -> Any:
        """Return what is there, None for no key: `payload` is JSON, `value` what the type made of it.

        Raises what the type's function raises.
        """


@dataclass(frozen=True, slots=True)
class PayloadPath:
    """Takes the key from the payload as it was submitted: the first of the dotted paths that is there counts.

    `default` is the key of a payload that has none of them.
    """

    paths: tuple[str, ...]
    default: str | int | None = None

    @property
    def place(self) -> str:
        """See `KeySource.place`."""
        return f"payload.{self.paths[0]}"

    def found(self, payload: Mapping[str, Any], value: Any) -> Any:
        """See `KeySource.found`."""
        for path in self.paths:
            is_there, one = _at(payload, path.split("."))
            if is_there:
                return one
        return self.default

    def announced(self) -> dict[str, Any]:
        """Return it as workers announce it: `announced_path` reads it."""
        return {"paths": list(self.paths), "default": self.default}


@dataclass(frozen=True, slots=True)
class PayloadFunction:
    """Computes the key from the validated payload."""

    function: Callable[[Any], Any]

    @property
    def place(self) -> str:
        """See `KeySource.place`."""
        return f"what {self.function!r:.200} returns"

    def found(self, payload: Mapping[str, Any], value: Any) -> Any:
        """See `KeySource.found`."""
        return self.function(value)


#: Stands for what a type makes of a payload with references to results that are not there yet.
NOT_VALIDATED: Final = object()


def announced_path(about: object) -> PayloadPath | None:
    """Return the path that a worker announced, None for anything else."""
    if not isinstance(about, Mapping):
        return None
    paths, default = about.get("paths"), about.get("default")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        return None
    return PayloadPath(tuple(paths), default if isinstance(default, str | int) else None)


def read_key(source: KeySource | None, payload: Mapping[str, Any], value: Any, *, field: str = "key") -> str | None:
    """Return the key of a payload, None if it has none; raises `InvalidSubmissionError` that names `field`."""
    if source is None:
        return None
    if value is NOT_VALIDATED and isinstance(source, PayloadFunction):
        message = "cannot be computed: the payload has results of other tasks in it, which are not there yet; give it"
        raise InvalidSubmissionError([Violation(field, message)])
    try:
        found = source.found(payload, value)
    except Exception as exc:  # the function is code of the project
        told = f"the function that computes it failed: {type(exc).__name__}: {exc}"[:_SHOWN]
        raise InvalidSubmissionError([Violation(field, told)]) from exc
    try:
        return as_key(found)
    except ValueError as exc:
        raise InvalidSubmissionError([Violation(field, f"{source.place} {exc}")]) from exc


def as_key(found: Any) -> str | None:
    """Return a value as a key, None for None; raises `ValueError` if it cannot be one."""
    if found is None:
        return None
    if isinstance(found, int | UUID) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str):
        raise ValueError(f"is of the type {type(found).__name__}: a key is a text or a whole number")
    check_key(found)
    return found


def key_source(name: str, given: KeyOf | None, payload: TypeAdapter[Any], *, option: str = "key") -> KeySource | None:
    """Return what reads the keys of task type `name`; raises `SettingsError` for what cannot be a source of keys."""
    if isinstance(given, str):
        return payload_path(name, given, payload, option)
    source = plain_source(given)
    if source is None and given is not None:
        raise SettingsError(
            f"task type {name!r}: {option}={given!r} is neither a path of the payload, such as 'customer', nor a "
            "function of the payload that is not async"
        )
    return source


def plain_source(given: Any) -> KeySource | None:
    """Return what reads keys by a path or a function, None for anything else; the path is not checked."""
    if isinstance(given, str) and all(given.split(".")):
        return PayloadPath((given,))
    if callable(given) and not inspect.iscoroutinefunction(given):
        return PayloadFunction(given)
    return None


def payload_path(name: str, path: str, payload: TypeAdapter[Any], option: str) -> PayloadPath:
    """Return what reads a path of the payloads of task type `name`; raises `SettingsError` for a wrong one."""
    steps = path.split(".")
    if not all(steps):
        raise SettingsError(f"task type {name!r}: {option}={path!r} is not a path of the payload, such as 'customer'")
    try:
        schema = payload.json_schema()
    except PydanticUserError:
        # A type without a JSON schema: whether it has the field shows when a task is submitted.
        return PayloadPath((path,))
    if path in secret_paths(schema):
        what = "titles" if option == "title" else "keys"
        raise SettingsError(
            f"task type {name!r}: {option}={path!r} is a secret, and everybody sees the {what} of tasks"
        )
    part: Any = schema
    for place, step in enumerate(steps):
        known = _properties(part, schema.get("$defs", {}), _DEPTH)
        if known is None:
            return PayloadPath((path,))
        if step not in known:
            near = suggested(step, sorted(known), most=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(known)) or '(none)'}"
            where = f"the field {'.'.join(steps[:place])!r} of its payload" if place else "its payload"
            raise SettingsError(f"task type {name!r}: {option}={path!r}: {where} has no field {step!r}; {hint}")
        part = known[step]
    default = part.get("default") if isinstance(part, Mapping) else None
    return PayloadPath((path,), default if isinstance(default, str | int) and not isinstance(default, bool) else None)


def _properties(part: Any, defs: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    """Return the fields that a schema names, None if there may be others."""
    if not isinstance(part, Mapping) or depth == 0:
        return None
    if isinstance(reference := part.get("$ref"), str):
        return _properties(defs.get(reference.rpartition("/")[2]), defs, depth - 1)
    found: dict[str, Any] = {}
    branches = [one for kind in ("anyOf", "oneOf", "allOf") for one in part.get(kind, ())]
    for branch in branches:
        if isinstance(branch, Mapping) and branch.get("type") == "null":
            continue
        known = _properties(branch, defs, depth - 1)
        if known is None:
            return None
        found |= known
    properties = part.get("properties")
    if isinstance(properties, Mapping):
        found |= properties
    elif not branches:
        return None
    return None if part.get("additionalProperties") else found


def _at(value: Any, steps: list[str]) -> tuple[bool, Any]:
    """Return whether there is something at a path, and what it is."""
    for step in steps:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return False, None
    return True, value
