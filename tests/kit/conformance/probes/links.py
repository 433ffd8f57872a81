"""Links, errbacks and children of a call."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult

from tests.kit.conformance.probing import WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


@probe
def link_gets_the_result() -> Any:
    key = fresh()
    result = t.add.apply_async((1, 1), link=t.note_last.s(key))
    return [result.get(timeout=WAIT), eventually(lambda: notes(key))]


@probe
def link_makes_a_child() -> Any:
    key = fresh()
    result = t.add.apply_async((1, 1), link=t.note_last.s(key))
    result.get(timeout=WAIT)
    eventually(lambda: notes(key))
    return [child.get(timeout=WAIT) for child in AsyncResult(result.id).children or []]


@probe
def several_links() -> Any:
    one, other = fresh(), fresh()
    t.add.apply_async((1, 2), link=[t.note_last.s(one), t.note_last.s(other)])
    return [eventually(lambda: notes(one)), eventually(lambda: notes(other))]


@probe
def an_immutable_link() -> Any:
    key = fresh()
    t.add.apply_async((1, 2), link=t.noted.si(key, "fixed"))
    return eventually(lambda: notes(key))


@probe
def links_of_links() -> Any:
    key = fresh()
    t.add.apply_async((1, 2), link=t.add.s(10).set(link=t.note_last.s(key)))
    return eventually(lambda: notes(key))


@probe
def a_link_of_a_failed_task_does_not_run() -> Any:
    key, after = fresh(), fresh()
    t.failing.apply_async(link=t.note_last.s(key), link_error=t.errback.s(key=after))
    return [eventually(lambda: notes(after)), notes(key)]


@probe
def link_error_in_the_old_style() -> Any:
    key = fresh()
    result = t.failing.apply_async(link_error=t.errback_old.s(key=key))
    return [raised(lambda: result.get(timeout=WAIT)), [one[1] == result.id for one in eventually(lambda: notes(key))]]


@probe
def link_error_in_the_new_style() -> Any:
    key = fresh()
    t.failing.apply_async(link_error=t.errback.s(key=key))
    return eventually(lambda: notes(key))


@probe
def several_link_errors() -> Any:
    one, other = fresh(), fresh()
    t.failing.apply_async(link_error=[t.errback.s(key=one), t.errback_old.s(key=other)])
    return [eventually(lambda: notes(one)), [found[0] for found in eventually(lambda: notes(other))]]


@probe
def an_immutable_link_error() -> Any:
    key = fresh()
    t.failing.apply_async(link_error=t.noted.si(key, "told"))
    return eventually(lambda: notes(key))


@probe
def a_child_knows_its_parent_and_root() -> Any:
    result = t.parent.delay(2)
    return [result.get(timeout=WAIT), [child.get(timeout=WAIT) for child in result.children]]


@probe
def a_child_that_is_not_to_be_one() -> Any:
    result = t.estranged.delay()
    return [result.get(timeout=WAIT), result.children]


@probe
def a_group_called_in_a_task_is_a_child() -> Any:
    result = t.calls_group.delay([1, 2])
    return [
        result.get(timeout=WAIT),
        [type(child).__name__ for child in result.children],
        result.children[0].join(timeout=WAIT),
    ]


@probe
def waiting_in_a_task_is_forbidden() -> Any:
    return raised(lambda: t.asks_child.delay(False).get(timeout=WAIT))


@probe
def waiting_in_a_task_is_possible() -> Any:
    return t.asks_child.delay(True).get(timeout=WAIT)
