"""The task types that a process knows: its own, and those that running workers announce."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import TypeAdapter

from celeriac.settings import GROUP_NAME
from celeriac.tasks.key_source import announced_path
from celeriac.tasks.record import plain_number
from celeriac.tasks.registry import Registry
from celeriac.tasks.request import MAX_RETRIES
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks
from celeriac.tasks.titles import announced_title
from celeriac.tasks.type_once import announced_once
from celeriac.tasks.types.celery_call import CELERY_ARGUMENTS, CELERY_CALL_HOOKS

if TYPE_CHECKING:
    from celeriac.store.task_store import TaskStore

#: How old the announcements may be when a type is found in them (seconds).
FRESH_S: Final = 2.0
#: How old they may be when a type is *not* found: a worker that just started should be seen at once.
_DOUBTED_S: Final = 0.2


class TypeLookup(Protocol):
    """Where task types are found: a `Registry`, or `KnownTypes`."""

    def get(self, name: str, /) -> TaskType | None:
        """Return the type of this name, or None."""
        ...

    def __iter__(self) -> Iterator[TaskType]:
        """Iterate over all types, by name."""
        ...


class KnownTypes:
    """The types of this process, joined with those that running workers announce.

    A type that only workers know is taken with any object as payload: the worker checks it.
    `announced` maps a name to what `TaskStore.task_types` says of it.
    """

    def __init__(self, local: Registry, announced: Mapping[str, Mapping[str, Any]]) -> None:
        self._local = local
        self._about = announced
        self._announced = {
            name: announced_type(name, about) for name, about in announced.items() if not is_own(name, local)
        }

    def get(self, name: str, /) -> TaskType | None:
        """Return the type of this name, or None; one of this process comes first."""
        return self._announced.get(name) or self._local.get(name)

    def payload_schema(self, known: TaskType) -> dict[str, Any]:
        """Return the JSON schema of a type's payload: its own, or the one that workers announced."""
        if known.name not in self._announced:
            return known.json_schema()
        schema = self._about.get(known.name, {}).get("schema")
        return schema if isinstance(schema, dict) else {"type": "object"}

    def __iter__(self) -> Iterator[TaskType]:
        own = [known for known in self._local if known.name not in self._announced]
        return iter(sorted([*own, *self._announced.values()], key=lambda known: known.name))


def is_own(name: str, local: Registry) -> bool:
    """Return whether this process has the type, whatever workers announce."""
    return name in local and not local.hooks_of(name).gives_way


_ANY_OBJECT: Final[TypeAdapter[Any]] = TypeAdapter(dict[str, Any])


def announced_type(name: str, about: Mapping[str, Any]) -> TaskType:
    """Return a type that only workers have, as far as their announcement describes it.

    Values of a wrong type are ignored: a worker of another version must not break submissions.
    """
    group, retries, timeout_s = about.get("group"), about.get("max_retries"), about.get("timeout_s")
    retention_s = about.get("retention_s")
    plain, celery_call = RetryPolicy(), about.get("celery") is True
    return TaskType(
        name=name,
        payload=CELERY_ARGUMENTS if celery_call else _ANY_OBJECT,
        hooks=CELERY_CALL_HOOKS if celery_call else TypeHooks(),
        group=group if isinstance(group, str) and GROUP_NAME.fullmatch(group) else "default",
        retry=RetryPolicy(
            max_retries=retries if type(retries) is int and 0 <= retries <= MAX_RETRIES else plain.max_retries
        ),
        timeout_s=float(timeout_s) if isinstance(timeout_s, int | float) and timeout_s > 0 else None,
        retention_s=float(retention_s) if isinstance(retention_s, int | float) and retention_s >= 0 else None,
        key=announced_path(about.get("key")),
        description=str(about.get("description") or ""),
        once=announced_once(about.get("once")),
        title_template=announced_title(about.get("title")),
        announced_schema=schema if isinstance(schema := about.get("schema"), dict) else {"type": "object"},
    )


def type_record(known: TaskType, payload_schema: dict[str, Any]) -> dict[str, Any]:
    """Return a task type as every front door writes it."""
    return {
        "name": known.name,
        "description": known.description,
        "queue": known.group,
        "max_retries": known.retry.max_retries,
        "timeout_s": None if known.timeout_s is None else plain_number(known.timeout_s),
        "payload_schema": payload_schema,
    }


def type_records(types: KnownTypes) -> list[dict[str, Any]]:
    """Return all types, by name, as every front door writes them."""
    return [type_record(known, types.payload_schema(known)) for known in types]


class TypeCatalog:
    """Looks task types up without asking the store for each one.

    Types of this process need no look-up. Others cost at most one round trip in `FRESH_S`, shared by
    all requests that wait for it.
    """

    def __init__(self, local: Registry, store: TaskStore) -> None:
        self.local = local
        self._store = store
        self._known = KnownTypes(local, {})
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    @property
    def known(self) -> KnownTypes:
        """All types as they were when they were read last, if ever."""
        return self._known

    def local_with(self, name: str) -> KnownTypes | None:
        """Return the types to look `name` up in if this process has it itself, without waiting for anything."""
        return self._known if is_own(name, self.local) else None

    async def containing(self, name: str) -> KnownTypes:
        """Return the types to look `name` up in, as fresh as it takes; raises `StoreUnavailableError`."""
        if is_own(name, self.local):
            return self._known
        known = await self.all(max_age_s=FRESH_S)
        return known if known.get(name) is not None else await self.all(max_age_s=_DOUBTED_S)

    async def all(self, *, max_age_s: float = FRESH_S) -> KnownTypes:
        """Return all types; raises `StoreUnavailableError`."""
        if asyncio.get_running_loop().time() - self._read_at > max_age_s:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read(), name="read-announced-types")
                self._reading.add_done_callback(self._read_ended)
            # Shielded: one client that hangs up must not fail the others.
            await asyncio.shield(self._reading)
        return self._known

    async def _read(self) -> None:
        announced = await self._store.task_types()
        self._known = KnownTypes(self.local, announced)
        self._read_at = asyncio.get_running_loop().time()

    def _read_ended(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # every caller that still waits gets it; without one, it counts as seen
