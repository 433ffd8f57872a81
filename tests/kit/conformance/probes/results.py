"""`AsyncResult`: all that it tells of one task."""

from __future__ import annotations

import copy
import io
import pickle
from datetime import datetime
from typing import Any

from celery import chain, group
from celery.result import AsyncResult, EagerResult, result_from_tuple

from tests.kit.conformance.probing import A_WHILE, LATER, SOON, WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes, release


def ended(result: Any) -> Any:
    """Wait for a result, whatever it is; return a new object that reads it afresh."""
    result.get(timeout=WAIT, propagate=False)
    return app.AsyncResult(result.id)


@probe
def a_success_as_async_result_shows_it() -> Any:
    result = ended(t.add.delay(1, 2))
    return [
        *(result.state, result.status, result.result, result.info, result.traceback, result.children),
        *(result.ready(), result.successful(), result.failed(), result.ignored, result.parent),
    ]


@probe
def a_failure_as_async_result_shows_it() -> Any:
    result = ended(t.failing.delay())
    trace = result.traceback or ""
    return [
        *(result.state, result.result, result.info, result.children, result.ready(), result.successful()),
        *(result.failed(), trace.rstrip().splitlines()[-1:], "in failing" in trace),
    ]


@probe
def an_id_that_nobody_has() -> Any:
    result = AsyncResult(fresh())
    return [
        result.state,
        result.result,
        result.ready(),
        result.traceback,
        result.children,
        result.date_done,
        result.name,
    ]


@probe
def the_extended_fields_of_a_success() -> Any:
    result = ended(t.pair.apply_async((1, "b"), {"c": [2]}))
    return [
        result.name,
        result.args,
        result.kwargs,
        result.retries,
        result.queue == app.conf.task_default_queue,
        bool(result.worker),
    ]


@probe
def the_extended_fields_of_a_failure() -> Any:
    result = ended(t.failing.apply_async((1, 2), queue="side"))
    return [result.name, result.args, result.kwargs, result.retries, result.queue, bool(result.worker)]


@probe
def the_extended_fields_after_a_retry() -> Any:
    result = ended(s.again.delay(1))
    return [result.name, result.args, result.retries]


@probe
def when_it_was_done() -> Any:
    done = ended(t.add.delay(1, 1)).date_done
    return [isinstance(done, datetime), getattr(done, "tzinfo", None) is not None]


@probe
def the_meta_that_the_backend_keeps_of_a_success() -> Any:
    result = ended(t.add.delay(1, 1))
    meta = app.backend.get_task_meta(result.id)
    return [sorted(meta), meta["status"], meta["result"]]


@probe
def the_meta_that_the_backend_keeps_of_a_failure() -> Any:
    result = ended(t.failing.delay())
    meta = app.backend.get_task_meta(result.id)
    return [sorted(meta), meta["status"], meta["result"]]


@probe
def the_questions_of_the_backend() -> Any:
    one, two = ended(t.add.delay(1, 1)).id, ended(t.failing.delay()).id
    backend = app.backend
    return [
        *(backend.get_state(one), backend.get_result(one), backend.get_traceback(one), backend.get_children(one)),
        *(backend.get_state(two), backend.get_result(two), bool(backend.get_traceback(two))),
    ]


@probe
def get_that_does_not_raise() -> Any:
    return t.failing.delay().get(timeout=WAIT, propagate=False)


@probe
def get_that_takes_too_long() -> Any:
    key = fresh()
    result = t.held.delay(key)
    found = raised(lambda: result.get(timeout=0.2))
    release(key)
    return [found, result.get(timeout=WAIT)]


@probe
def get_with_a_callback() -> Any:
    seen: list[Any] = []
    result = t.add.delay(1, 2)
    value = result.get(timeout=WAIT, callback=lambda task_id, one: seen.append([task_id == result.id, one]))
    return [value, seen]


@probe
def get_with_an_interval() -> Any:
    return t.add.delay(1, 2).get(timeout=WAIT, interval=0.01)


@probe
def get_hears_messages_of_states() -> Any:
    heard: list[Any] = []
    key = fresh()

    def hear(meta: Any) -> None:
        # Messages of other results, which nobody waited for, may come too.
        if meta["task_id"] == result.id:
            heard.append([meta["status"], meta["result"]])
            release(f"{key}:0")

    # It runs when the caller listens.
    result = s.reports.apply_async((key, ["PROGRESS", {"done": 1}]), countdown=1)
    value = result.get(timeout=WAIT, on_message=hear)
    return [value, [one for n, one in enumerate(heard) if one not in heard[:n]]]


@probe
def get_hears_a_state_from_before() -> Any:
    heard: list[Any] = []
    key = fresh()

    def hear(meta: Any) -> None:
        if meta["task_id"] == result.id:
            heard.append([meta["status"], meta["result"]])
            release(f"{key}:0")

    result = s.reports.delay(key, ["PROGRESS", {"done": 1}])
    eventually(lambda: notes(key))
    return [result.get(timeout=WAIT, on_message=hear), heard]


@probe
def get_twice() -> Any:
    result = t.add.delay(1, 2)
    return [result.get(timeout=WAIT), result.get(timeout=WAIT), AsyncResult(result.id).get(timeout=WAIT)]


@probe
def get_and_join_with_no_timeout() -> Any:
    return [t.add.delay(1, 2).get(), group(t.add.s(1, 1), t.add.s(2, 2))().get()]


@probe
def wait_is_get() -> Any:
    return t.add.delay(1, 2).wait(timeout=WAIT)


@probe
def then_calls_back() -> Any:
    seen: list[Any] = []
    result = t.add.delay(1, 2)
    result.then(lambda one: seen.append(one.result))
    result.get(timeout=WAIT)
    return seen


@probe
def maybe_throw_and_reraise() -> Any:
    good, bad = ended(t.add.delay(1, 2)), ended(t.failing.delay())
    return [
        *(good.maybe_throw(), good.maybe_reraise(), raised(bad.maybe_throw), raised(bad.maybe_reraise)),
        bad.maybe_throw(propagate=False),
    ]


@probe
def children_of_a_task() -> Any:
    result = t.parent.delay(3)
    result.get(timeout=WAIT)
    return [child.get(timeout=WAIT) for child in app.AsyncResult(result.id).children]


@probe
def collect_walks_through_the_children() -> Any:
    result = t.parent.delay(2)
    result.get(timeout=WAIT)
    return [value for _, value in result.collect(timeout=WAIT)]


@probe
def iterdeps_names_parents_and_children() -> Any:
    result = t.parent.delay(2)
    result.get(timeout=WAIT)
    for child in result.children:
        child.get(timeout=WAIT)
    return [[parent and parent.id == result.id, node.id == result.id] for parent, node in result.iterdeps()]


@probe
def iterdeps_of_what_is_not_ready() -> Any:
    key = fresh()
    result = t.held.delay(key)
    found = raised(lambda: list(result.iterdeps()))
    release(key)
    return found


@probe
def get_leaf_is_the_last_of_a_chain() -> Any:
    result = t.add.apply_async((1, 2), link=t.add.s(10))
    result.get(timeout=WAIT)
    eventually(lambda: app.AsyncResult(result.id).children)
    app.AsyncResult(result.id).children[0].get(timeout=WAIT)
    return app.AsyncResult(result.id).get_leaf()


@probe
def the_graph_of_a_result() -> Any:
    result = t.parent.delay(2)
    result.get(timeout=WAIT)
    for child in result.children:
        child.get(timeout=WAIT)
    graph = AsyncResult(result.id).build_graph()
    out = io.StringIO()
    graph.to_dot(out)
    return [len(list(graph)), out.getvalue().count("->")]


@probe
def parents_of_a_chain() -> Any:
    result = chain(t.add.s(1, 2), t.add.s(10), t.add.s(100))()
    parents = [result.parent, result.parent.parent]
    return [result.get(timeout=WAIT), [one.get(timeout=WAIT) for one in parents], parents[1].parent]


@probe
def forget_makes_it_unknown() -> Any:
    result = ended(t.add.delay(1, 2))
    result.forget()
    again = AsyncResult(result.id)
    return [again.state, again.result]


@probe
def as_tuple_and_back() -> Any:
    result = chain(t.add.s(1, 2), t.add.s(10))()
    shape = result.as_tuple()
    back = result_from_tuple(shape)
    return [shape, back.get(timeout=WAIT), back.parent.get(timeout=WAIT), back == result, [len(result.as_list())]]


@probe
def equality_hash_and_text() -> Any:
    result = t.add.delay(1, 2)
    other = AsyncResult(result.id)
    return [result == other, result == result.id, hash(result) == hash(other), str(result) == result.id, repr(result)]


@probe
def copies_and_pickles() -> Any:
    result = t.add.delay(1, 2)
    return [copy.copy(result).get(timeout=WAIT), pickle.loads(pickle.dumps(result)).get(timeout=WAIT)]


@probe
def results_of_the_task_and_of_the_app() -> Any:
    result = t.add.delay(1, 2)
    return [t.add.AsyncResult(result.id).get(timeout=WAIT), app.AsyncResult(result.id).get(timeout=WAIT)]


@probe
def an_eager_success() -> Any:
    result = t.add.apply((1, 2))
    return [
        isinstance(result, EagerResult),
        result.get(),
        result.state,
        result.ready(),
        result.successful(),
        result.parent,
    ]


@probe
def an_eager_failure() -> Any:
    result = t.failing.apply()
    return [result.state, result.result, raised(result.get), bool(result.traceback), result.get(propagate=False)]


@probe
def an_eager_failure_that_throws() -> Any:
    return raised(lambda: t.failing.apply(throw=True))


@probe
def an_eager_request() -> Any:
    told = t.about.apply((1,), {"b": 2}).get()
    return {name: told[name] for name in ("args", "kwargs", "eager", "direct", "retries", "queue", "root", "parent")}


@probe
def an_eager_retry() -> Any:
    return [s.again.apply((2,)).get(), raised(lambda: s.never_again.apply().get())]


@probe
def a_call_as_a_function() -> Any:
    return [t.add(1, 2), t.about(1)["direct"], t.add.run(3, 4), raised(t.failing)]


@probe
def revoked_before_it_is_due() -> Any:
    key = fresh()
    result = t.noted.apply_async((key,), countdown=LATER)
    result.revoke()
    return [raised(lambda: result.get(timeout=WAIT)), result.state, notes(key)]


@probe
def revoked_while_it_runs_it_goes_on() -> Any:
    key = fresh()
    result = t.held.delay(key)
    eventually(lambda: notes(key))
    result.revoke()
    # Where it stops a task that runs, it does so before the task goes on.
    eventually(result.ready, timeout_s=A_WHILE)
    release(key)
    return [raised(lambda: result.get(timeout=SOON)), result.state]


@probe
def revoked_while_it_runs_it_does_not_run_again() -> Any:
    key = fresh()
    result = s.waits_to_be_revoked.delay(key)
    eventually(lambda: notes(key))
    result.revoke()
    # The worker answers after it has heard that the task is revoked.
    app.control.ping(timeout=WAIT, limit=1)
    release(key)
    raised(lambda: result.get(timeout=SOON))
    return [result.state, notes(key)]


@probe
def terminated_while_it_runs() -> Any:
    key = fresh()
    result = t.held.delay(key)
    eventually(lambda: notes(key))
    result.revoke(terminate=True)
    found = raised(lambda: result.get(timeout=WAIT))
    return [found, eventually(lambda: app.AsyncResult(result.id).state, lambda state: state == "REVOKED")]


@probe
def get_many_of_the_backend() -> Any:
    results = [t.add.delay(n, 1) for n in range(4)]
    found = dict(app.backend.get_many([result.id for result in results], timeout=WAIT))
    return [[found[result.id]["status"], found[result.id]["result"]] for result in results]


@probe
def a_result_read_before_the_call() -> Any:
    chosen = fresh()
    early = AsyncResult(chosen)
    before = early.state
    t.add.apply_async((1, 1), task_id=chosen)
    return [before, early.get(timeout=WAIT), early.state]
