"""Definitions that something else owns: Celery's configuration, or the code of a task type.

An operator may pause, resume and trigger them. Everything else follows their owner. Pure.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any, Final

from celeriac.schedules import transitions
from celeriac.schedules.definition import Decision, Definition, DefinitionStatus, Open, Spec, TaskTriggerType
from celeriac.schedules.record import definition_record
from celeriac.schedules.times.budget import Budget

#: Definitions that no longer fire.
OVER: Final = (DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
#: The metadata field of a definition that was paused when its owner removed it: the note of the pause.
_PAUSED: Final = "paused"
_SHOWN: Final = ("name", "trigger_args", "task", "group", "misfire", "overlap", "jitter")


def owned_definition(definition_id: str, *, source: str, name: str, spec: Spec, now_ms: int) -> Definition:
    """Return a new definition of an owner."""
    return Definition(
        definition_id=definition_id,
        rev=1,
        status=DefinitionStatus.ACTIVE,
        trigger_type=TaskTriggerType.LOOP,
        source=source,
        name=name,
        user_id=None,
        group=spec.run["group"],
        spec=spec,
        note=None,
        next_slot_ms=None,
        next_ms=None,
        created_ms=now_ms,
        updated_ms=now_ms,
        ended_ms=None,
    )


def owned_id(namespace: uuid.UUID, name: str) -> str:
    """Return the id of an owner's definition, which is the same in every process."""
    return str(uuid.uuid5(namespace, name))


def is_current(old: Definition, new: Definition) -> bool:
    """Return whether a stored definition is what its owner wants."""
    return old.status not in OVER and old.name == new.name and _kept(old, new).dumped() == old.spec.dumped()


def updated(
    old: Definition, new: Definition, unended: Open, now_ms: int, *, actor: str, budget: Budget | None = None
) -> Decision | None:
    """Return the stored definition as its owner wants it, None if it is so already.

    One that was removed is back, paused if it was. The times that stay the same keep their phase and their next slot.
    """
    if is_current(old, new):
        return None
    spec = new.spec if old.spec.trigger_args != new.spec.trigger_args else _kept(old, new)
    if old.status is DefinitionStatus.CANCELLED:
        paused = old.spec.metadata.get(_PAUSED)
        status = DefinitionStatus.ACTIVE if paused is None else DefinitionStatus.PAUSED
        old = replace(old, status=status, note=paused or None, ended_ms=None)
    after = replace(old, name=new.name, spec=spec, group=new.group)
    changed = _changed(old, after)
    return transitions.edited(old, after, unended, now_ms, actor=actor, changed=changed, budget=budget)


def removed(definition: Definition, now_ms: int, *, actor: str, note: str, cancel_open: bool = True) -> Decision | None:
    """Return the definition without its owner; `cancel_open`: its instances are cancelled too."""
    if definition.status in OVER:
        return None
    if definition.status is DefinitionStatus.PAUSED:
        metadata = {**definition.spec.metadata, _PAUSED: definition.note or ""}
        definition = replace(definition, spec=replace(definition.spec, metadata=metadata))
    decision = transitions.cancelled(definition, now_ms, actor=actor, note=note, inside=True)
    return replace(decision, cancel_open=cancel_open)


def _kept(old: Definition, new: Definition) -> Spec:
    """Return the wanted spec with what the stored one remembers of its times."""
    return replace(new.spec, anchor_ms=old.spec.anchor_ms, earlier=old.spec.earlier, since_ms=old.spec.since_ms)


def _changed(old: Definition, new: Definition) -> dict[str, Any]:
    before, after = definition_record(old, old.status), definition_record(new, new.status)
    return {name: [before[name], after[name]] for name in _SHOWN if before[name] != after[name]}
