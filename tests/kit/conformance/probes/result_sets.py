"""`GroupResult` and `ResultSet`."""

from __future__ import annotations

from typing import Any

from celery import group
from celery.result import GroupResult, ResultSet, result_from_tuple

from tests.kit.conformance.probing import LATER, WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes, release


def three() -> Any:
    return group(t.add.s(n, n) for n in range(3))()


def one_bad() -> Any:
    return group(t.failing_on.s(n, 1) for n in range(3))()


@probe
def a_group_result_that_succeeds() -> Any:
    result = three()
    values = result.get(timeout=WAIT)
    return [
        *(values, result.successful(), result.failed(), result.ready(), result.waiting(), result.completed_count()),
        *(len(result), [one.result for one in result], result[1].get(), result.parent, bool(result)),
    ]


@probe
def a_group_result_with_a_failure() -> Any:
    result = one_bad()
    found = raised(lambda: result.get(timeout=WAIT))
    values = result.get(timeout=WAIT, propagate=False)
    return [found, values, result.successful(), result.failed(), result.ready(), result.completed_count()]


@probe
def join() -> Any:
    return [
        three().join(timeout=WAIT),
        raised(lambda: one_bad().join(timeout=WAIT)),
        one_bad().join(timeout=WAIT, propagate=False),
    ]


@probe
def join_native() -> Any:
    return [three().join_native(timeout=WAIT), raised(lambda: one_bad().join_native(timeout=WAIT))]


@probe
def join_native_without_raising() -> Any:
    return one_bad().join_native(timeout=WAIT, propagate=False)


@probe
def join_with_a_callback() -> Any:
    seen: list[Any] = []
    value = three().join(timeout=WAIT, callback=lambda _, one: seen.append(one))
    return [value, sorted(seen)]


@probe
def iter_native() -> Any:
    result = three()
    ids = [one.id for one in result]
    return sorted(
        [ids.index(task_id), meta["status"], meta["result"]] for task_id, meta in result.iter_native(timeout=WAIT)
    )


@probe
def join_that_takes_too_long() -> Any:
    key = fresh()
    result = group(t.held.s(key), t.add.s(1, 1))()
    found = raised(lambda: result.join(timeout=0.3))
    count = eventually(result.completed_count)
    waiting = [result.waiting(), result.ready(), count]
    release(key)
    return [found, waiting, result.join(timeout=WAIT)]


@probe
def save_restore_and_delete() -> Any:
    result = three()
    result.save()
    found = GroupResult.restore(result.id)
    values = found.get(timeout=WAIT)
    found.delete()
    return [found == result, values, len(found), GroupResult.restore(result.id)]


@probe
def restore_by_the_app() -> Any:
    result = three()
    result.save()
    return app.GroupResult.restore(result.id).get(timeout=WAIT)


@probe
def restore_of_what_was_not_saved() -> Any:
    return GroupResult.restore(fresh())


@probe
def a_group_result_as_a_tuple_and_back() -> Any:
    result = three()
    back = result_from_tuple(result.as_tuple())
    return [result.as_tuple(), back == result, back.get(timeout=WAIT)]


@probe
def revoke_of_a_group() -> Any:
    keys = [fresh(), fresh()]
    result = group(t.noted.s(key) for key in keys).apply_async(countdown=LATER)
    result.revoke()
    return [[raised(lambda one=one: one.get(timeout=WAIT)) for one in result], [notes(key) for key in keys]]


@probe
def forget_of_a_group() -> Any:
    result = three()
    result.get(timeout=WAIT)
    result.forget()
    return [app.AsyncResult(one.id).state for one in result]


@probe
def a_set_of_results() -> Any:
    one, two, three_ = t.add.delay(1, 1), t.add.delay(2, 2), t.add.delay(3, 3)
    results = ResultSet([one, two])
    results.add(three_)
    results.add(one)
    before = len(results)
    results.discard(one)
    results.remove(two)
    gone = raised(lambda: results.remove(fresh()))
    results.update([one, two])
    return [before, len(results), gone, sorted(results.join(timeout=WAIT)), results.successful()]


@probe
def an_empty_set_of_results() -> Any:
    results = ResultSet([])
    return [results.join(timeout=1), results.ready(), results.successful(), results.failed(), results.completed_count()]


@probe
def maybe_throw_of_a_set() -> Any:
    result = one_bad()
    result.get(timeout=WAIT, propagate=False)
    return raised(result.maybe_throw)


@probe
def then_of_a_group() -> Any:
    seen: list[Any] = []
    result = three()
    result.then(lambda one: seen.append(sorted(one.join())))
    result.get(timeout=WAIT)
    return seen


@probe
def children_of_a_group_result() -> Any:
    result = three()
    return [result.get(timeout=WAIT), [child.get() for child in result.children], len(result.results)]


@probe
def the_id_of_a_group() -> Any:
    chosen = fresh()
    result = group([t.request_field.s("group"), t.request_field.s("group")]).apply_async(group_id=chosen)
    return [result.id == chosen, [one == result.id for one in result.get(timeout=WAIT)]]
