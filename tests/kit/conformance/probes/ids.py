"""Ids that are called again: by hand, by frozen signatures, by the task itself."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from celery.result import AsyncResult

from tests.kit.conformance.probing import A_WHILE, LATER, WAIT, eventually, fresh, probe
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import hold, notes, release


def _noted(key: str, count: int) -> list[Any]:
    """Return what tasks have noted, as soon as there are so many notes; the order of parts of a group is open."""
    return sorted(eventually(lambda: notes(key), lambda found: len(found) >= count), key=str)


@probe
def an_id_called_again_after_its_end() -> Any:
    key, chosen = fresh(), fresh()
    first = t.noted.apply_async((key, "first"), task_id=chosen).get(timeout=WAIT)
    # Celery's backends keep the first success of an id, so that its result does not tell of the second run.
    t.noted.apply_async((key, "again"), task_id=chosen)
    return [first, _noted(key, 2)]


@probe
def an_id_called_again_for_another_task() -> Any:
    key, chosen = fresh(), fresh()
    t.add.apply_async((1, 2), task_id=chosen).get(timeout=WAIT)
    t.noted.apply_async((key, "another"), task_id=chosen)
    return _noted(key, 1)


@probe
def an_id_called_again_after_a_failure() -> Any:
    key, chosen = fresh(), fresh()
    failed = t.failing.apply_async(task_id=chosen)
    eventually(failed.ready)
    t.noted.apply_async((key, "well"), task_id=chosen)
    return [_noted(key, 1), eventually(lambda: AsyncResult(chosen).state, lambda found: found == "SUCCESS")]


@probe
def an_id_called_again_many_times() -> Any:
    key, chosen = fresh(), fresh()
    for number in range(5):
        t.noted.apply_async((key, number), task_id=chosen)
        _noted(key, number + 1)
    return _noted(key, 5)


@probe
def an_id_called_again_with_a_countdown() -> Any:
    key, chosen = fresh(), fresh()
    t.noted.apply_async((key, 1), task_id=chosen).get(timeout=WAIT)
    t.noted.apply_async((key, 2), task_id=chosen, countdown=1)
    return _noted(key, 2)


@probe
def an_id_called_again_while_it_runs() -> Any:
    key, later, chosen = fresh(), fresh(), fresh()
    t.held.apply_async((key,), task_id=chosen)
    eventually(lambda: notes(key))
    t.noted.apply_async((later, "later"), task_id=chosen)
    release(key)
    return [_noted(later, 1), notes(key)]


@probe
def an_id_called_again_while_it_waits() -> Any:
    key, chosen = fresh(), fresh()
    t.noted.apply_async((key, 1), task_id=chosen, countdown=LATER)
    t.noted.apply_async((key, 2), task_id=chosen, countdown=LATER)
    return [*_noted(key, 1), *eventually(lambda: notes(key)[1:], timeout_s=A_WHILE)]


@probe
def a_task_that_calls_its_own_id() -> Any:
    key = fresh()
    t.calls_itself.delay(key, 3)
    return _noted(key, 4)


@probe
def an_id_that_a_task_calls_each_time_it_runs() -> Any:
    key, child = fresh(), fresh()
    for number in range(3):
        t.calls_child.delay(key, child)
        _noted(key, number + 1)
    return _noted(key, 3)


@probe
def a_frozen_signature_applied_twice() -> Any:
    key = fresh()
    call = t.noted.s(key, "ran")
    call.freeze()
    first = call.apply_async()
    _noted(key, 1)
    second = call.apply_async()
    return [first.id == second.id, _noted(key, 2)]


@probe
def a_frozen_chain_applied_twice() -> Any:
    key = fresh()
    links = chain(t.noted.si(key, "first"), t.noted.si(key, "second"))
    links.freeze()
    for number in range(2):
        links.apply_async()
        _noted(key, 2 * number + 2)
    return _noted(key, 4)


@probe
def a_frozen_group_applied_twice() -> Any:
    key = fresh()
    parts = group(t.noted.si(key, "one"), t.noted.si(key, "two"))
    parts.freeze()
    for number in range(2):
        parts.apply_async()
        _noted(key, 2 * number + 2)
    return _noted(key, 4)


@probe
def a_frozen_chord_applied_twice() -> Any:
    key = fresh()
    whole = chord([t.noted_when_released.si(key, "one"), t.noted_when_released.si(key, "two")], t.noted.si(key, "body"))
    backend, group_id = t.app.backend, whole.freeze().parent.id
    for number in range(2):
        # Celery counts no part that ends before the last one is published: to it that is a late copy of the first run.
        hold(key)
        whole.apply_async()
        release(key)
        _noted(key, 3 * number + 3)
        # Celery forgets the parts that it has counted only after it has published the body.
        eventually(lambda: not backend.client.exists(backend.get_key_for_group(group_id, ".s")))
    return _noted(key, 6)
