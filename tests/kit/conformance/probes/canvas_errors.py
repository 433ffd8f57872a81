"""Canvas that fails: at every place, and who is told."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from celery.result import AsyncResult

from tests.kit.conformance.probing import A_WHILE, LATER, WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


def failure_of(canvas: Any) -> Any:
    """Return what `get` of a canvas raises, and the state of its last task."""
    result = canvas.apply_async()
    found = raised(lambda: result.get(timeout=WAIT))
    return [found, settled(result.id)[0] if isinstance(result, AsyncResult) else None]


def settled(task_id: str) -> Any:
    """Return state and result of a task that may still be about to end: its error comes from what failed before it."""
    state = eventually(lambda: AsyncResult(task_id).state, lambda found: found != "PENDING", timeout_s=A_WHILE)
    return [state, AsyncResult(task_id).result]


@probe
def the_first_of_a_chain_fails() -> Any:
    return failure_of(chain(t.failing.s(), t.add.s(1), t.add.s(2)))


@probe
def the_middle_of_a_chain_fails() -> Any:
    return failure_of(chain(t.add.s(1, 1), t.failing.s(), t.add.s(2)))


@probe
def the_last_of_a_chain_fails() -> Any:
    return failure_of(chain(t.add.s(1, 1), t.failing.s()))


@probe
def states_of_a_chain_that_fails() -> Any:
    result = chain(t.add.s(1, 1), t.failing.s(), t.add.s(2), t.add.s(3)).apply_async()
    result.get(timeout=WAIT, propagate=False)
    states = []
    while result is not None:
        states.append(settled(result.id))
        result = result.parent
    return states


@probe
def a_chain_that_fails_does_not_raise_if_told() -> Any:
    return chain(t.failing.s(), t.add.s(1)).apply_async().get(timeout=WAIT, propagate=False)


@probe
def link_error_of_a_chain() -> Any:
    key = fresh()
    chain(t.add.s(1, 1), t.failing.s(), t.add.s(1)).apply_async(link_error=t.errback.s(key=key))
    return eventually(lambda: notes(key))


@probe
def on_error_of_a_link() -> Any:
    key = fresh()
    chain(t.add.s(1, 1), t.failing.s().on_error(t.errback.s(key=key)), t.add.s(1)).apply_async()
    return eventually(lambda: notes(key))


@probe
def one_of_a_group_fails() -> Any:
    return failure_of(group(t.add.s(1, 1), t.failing.s(), t.add.s(2, 2)))


@probe
def link_error_of_a_group() -> Any:
    key = fresh()
    group(t.add.s(1, 1), t.failing.s()).apply_async(link_error=t.errback.s(key=key))
    return eventually(lambda: notes(key))


@probe
def one_of_a_header_fails() -> Any:
    return failure_of(chord([t.add.s(1, 1), t.failing.s()], t.tsum.s()))


@probe
def all_of_a_header_fail() -> Any:
    return failure_of(chord([t.failing.s(), t.failing.s()], t.tsum.s()))


@probe
def the_only_one_of_a_header_fails() -> Any:
    return failure_of(chord([t.failing.s()], t.tsum.s()))


@probe
def the_body_of_a_chord_fails() -> Any:
    return failure_of(chord([t.add.s(1, 1), t.add.s(2, 2)], t.failing.s()))


@probe
def an_exception_of_the_project_in_a_header() -> Any:
    return failure_of(chord([t.add.s(1, 1), s.raises.s("own")], t.tsum.s()))


@probe
def states_of_a_chord_that_fails() -> Any:
    result = chord([t.add.s(1, 1), t.failing.s()], t.tsum.s()).apply_async()
    result.get(timeout=WAIT, propagate=False)
    return [settled(result.id)[0], [settled(one.id)[0] for one in result.parent]]


@probe
def link_error_of_a_chord() -> Any:
    key = fresh()
    chord([t.add.s(1, 1), t.failing.s()], t.tsum.s()).apply_async(link_error=t.errback.s(key=key))
    return eventually(lambda: notes(key))


@probe
def on_error_of_a_chord() -> Any:
    key = fresh()
    chord([t.add.s(1, 1), t.failing.s()], t.tsum.s().on_error(t.errback.s(key=key))).apply_async()
    return eventually(lambda: notes(key))


@probe
def on_error_in_the_old_style_of_a_chord() -> Any:
    key = fresh()
    result = chord([t.add.s(1, 1), t.failing.s()], t.tsum.s().on_error(t.errback_old.s(key=key))).apply_async()
    return [[one[0], one[1] == result.id] for one in eventually(lambda: notes(key))]


@probe
def link_error_of_the_body_that_fails_itself() -> Any:
    key = fresh()
    chord([t.add.s(1, 1)], t.failing.s().on_error(t.errback.s(key=key))).apply_async()
    return eventually(lambda: notes(key))


@probe
def a_chain_in_a_header_fails_early() -> Any:
    return failure_of(chord([chain(t.failing.si(), t.add.si(1, 1)), t.add.s(2, 2)], t.tsum.s()))


@probe
def a_chord_in_a_chain_fails_in_its_header() -> Any:
    return failure_of(chain(t.add.s(1, 1), chord([t.failing.s(), t.add.s(1)], t.tsum.s()), t.add.s(1)))


@probe
def a_chord_in_a_chain_fails_in_its_body() -> Any:
    return failure_of(chain(t.add.s(1, 1), chord([t.add.s(1)], t.failing.s()), t.add.s(1)))


@probe
def what_comes_before_a_chord_fails() -> Any:
    return failure_of(chain(t.failing.s(), chord([t.add.s(1), t.add.s(2)], t.tsum.s())))


@probe
def a_group_at_the_end_of_a_chain_fails() -> Any:
    return failure_of(chain(t.add.s(1, 1), group(t.failing.s(), t.add.s(1))))


@probe
def what_comes_before_a_group_fails() -> Any:
    result = chain(t.failing.s(), group(t.add.s(1), t.add.s(2))).apply_async()
    return raised(lambda: result.parent.get(timeout=WAIT))


@probe
def a_chord_in_a_chord_fails_inside() -> Any:
    inner = chord([t.failing.s(), t.add.s(1, 1)], t.tsum.s())
    return failure_of(chord([inner, t.add.s(3, 3)], t.tsum.s()))


@probe
def the_body_is_a_chain_and_the_header_fails() -> Any:
    return failure_of(chord([t.failing.s(), t.add.s(1, 1)], chain(t.tsum.s(), t.add.s(1))))


@probe
def the_body_is_a_group_and_the_header_fails() -> Any:
    result = chord([t.failing.s(), t.add.s(1, 1)], group(t.tsum.s(), t.pair.s())).apply_async()
    return raised(lambda: result.get(timeout=WAIT))


@probe
def errbacks_of_a_group_as_body() -> Any:
    one, other = fresh(), fresh()
    body = group(t.tsum.s().on_error(t.errback.s(key=one)), t.pair.s().on_error(t.errback.s(key=other)))
    chord([t.failing.s(), t.add.s(1, 1)], body).apply_async()
    return [eventually(lambda: notes(one)), eventually(lambda: notes(other))]


@probe
def an_errback_that_is_a_chain() -> Any:
    key = fresh()
    t.failing.apply_async(link_error=chain(t.identity.si("told"), t.note_last.s(key)))
    return eventually(lambda: notes(key))


@probe
def an_errback_that_is_a_group() -> Any:
    one, other = fresh(), fresh()
    t.failing.apply_async(link_error=group(t.noted.si(one), t.noted.si(other)))
    return [eventually(lambda: notes(one)), eventually(lambda: notes(other))]


@probe
def an_errback_that_fails() -> Any:
    result = t.failing.apply_async(link_error=t.failing.s())
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def the_body_of_a_failed_chord_does_not_run() -> Any:
    key, after = fresh(), fresh()
    chord([t.failing.s()], t.note_last.s(key).on_error(t.errback.s(key=after))).apply_async()
    return [len(eventually(lambda: notes(after))), notes(key)]


@probe
def a_link_of_a_chain_that_fails_does_not_run() -> Any:
    key = fresh()
    result = chain(t.failing.s(), t.add.s(1)).apply_async(link=t.note_last.s(key))
    result.get(timeout=WAIT, propagate=False)
    return notes(key)


@probe
def ignored_in_a_chain_stops_it() -> Any:
    key = fresh()
    result = chain(s.ignores.si(key), t.add.si(1, 1)).apply_async()
    eventually(lambda: notes(key))
    return [raised(lambda: result.get(timeout=1)), AsyncResult(result.id).state]


@probe
def revoked_in_a_chain_stops_it() -> Any:
    result = chain(t.add.s(1, 1), t.add.s(1)).apply_async(countdown=LATER)
    result.parent.revoke()
    # What is behind it stays PENDING with Celery; the store says soon afterwards that it is revoked too.
    return [raised(lambda: result.parent.get(timeout=WAIT)), AsyncResult(result.id).successful()]
