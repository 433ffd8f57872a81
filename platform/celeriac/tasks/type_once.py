"""The key of `once` that a task type gives its tasks: `@task(once={"key": "customer"})`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from pydantic import TypeAdapter, ValidationError

from celeriac.errors import SettingsError
from celeriac.tasks.key_source import KeyOf, KeySource, PayloadPath, announced_path, key_source, read_key
from celeriac.tasks.request import OnceRequest
from celeriac.violations import violations_of

#: Stands for the key until a payload is there.
_ANY_KEY: Final = "key"


class OnceOptions(TypedDict, total=False):
    """What `@task(once=...)` takes: as `once` of a submission, but for the key."""

    #: As `key` of `@task`: a dotted path of the payload, or a function of the validated payload.
    key: KeyOf
    until: str | float
    on_conflict: str


@dataclass(frozen=True, slots=True)
class TypeOnce:
    """How the tasks of a type get their keys; `policy` is what they have in common."""

    key: KeySource
    policy: OnceRequest

    def request(self, payload: Mapping[str, Any], value: Any) -> OnceRequest | None:
        """Return what a submission with this payload asks for, None without a key; raises `InvalidSubmissionError`.

        `value`: as `read_key` takes it.
        """
        key = read_key(self.key, payload, value, field="once.key")
        return None if key is None else self.policy.model_copy(update={"key": key})

    def announced(self) -> dict[str, Any] | None:
        """Return what workers announce of it (JSON); None if only a process that has the function knows the key."""
        if not isinstance(self.key, PayloadPath):
            return None
        return {**self.policy.model_dump(mode="json"), "key": self.key.announced()}


def type_once(name: str, given: Mapping[str, Any] | None, payload: TypeAdapter[Any]) -> TypeOnce | None:
    """Return what `@task(once=...)` means for the type `name`; raises `SettingsError`."""
    if given is None:
        return None
    key = key_source(name, given.get("key"), payload, option="once.key")
    if key is None:
        raise SettingsError(f'task type {name!r}: once.key is not set: write once={{"key": "customer"}}')
    try:
        return TypeOnce(key, OnceRequest.model_validate({**given, "key": _ANY_KEY}))
    except ValidationError as exc:
        first = violations_of(exc)[0]
        raise SettingsError(f"task type {name!r}: once.{first.field}: {first.message}") from exc


def announced_once(about: object) -> TypeOnce | None:
    """Return what a worker announced, None for anything else."""
    if not isinstance(about, Mapping) or (key := announced_path(about.get("key"))) is None:
        return None
    try:
        return TypeOnce(key, OnceRequest.model_validate({**about, "key": _ANY_KEY}))
    except ValidationError:
        return None  # a worker of another version says more than is known here
