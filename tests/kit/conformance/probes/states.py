"""States: `update_state`, states of a project's own, Ignore, Reject, started, stored by others."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.contrib.abortable import AbortableAsyncResult

from tests.kit.conformance.probing import WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes, release


def _longer_than(number: int, found: list[Any]) -> bool:
    return len(found) > number


@probe
def update_state_is_seen_while_it_runs() -> Any:
    key, seen = fresh(), []
    result = s.reports.delay(key, ["PROGRESS", {"current": 1, "total": 2}], ["HALF", {"text": "ä"}])
    for number in range(2):
        eventually(lambda: notes(key), partial(_longer_than, number))
        seen.append([result.state, result.info, result.result, result.ready()])
        release(f"{key}:{number}")
    return [seen, result.get(timeout=WAIT), result.state]


@probe
def update_state_without_a_meta() -> Any:
    key = fresh()
    result = s.reports.delay(key, ["THINKING", None])
    eventually(lambda: notes(key))
    seen = [result.state, result.info]
    release(f"{key}:0")
    return [seen, result.get(timeout=WAIT)]


@probe
def update_state_with_a_meta_that_is_not_a_mapping() -> Any:
    key = fresh()
    result = s.reports.delay(key, ["COUNTED", [1, 2]])
    eventually(lambda: notes(key))
    seen = [result.state, result.info]
    release(f"{key}:0")
    return [seen, result.get(timeout=WAIT)]


@probe
def update_state_from_elsewhere() -> Any:
    chosen = fresh()
    t.add.update_state(task_id=chosen, state="ELSEWHERE", meta={"by": "a probe"})
    result = app.AsyncResult(chosen)
    return [result.state, result.info, result.ready()]


@probe
def update_state_from_elsewhere_while_it_runs() -> Any:
    key = fresh()
    result = t.held.delay(key)
    eventually(lambda: notes(key))
    t.held.update_state(task_id=result.id, state="SEEN", meta={"by": "a probe"})
    seen = [app.AsyncResult(result.id).state, app.AsyncResult(result.id).info]
    release(key)
    return [seen, result.get(timeout=WAIT)]


@probe
def a_state_of_ones_own_stays_after_ignore() -> Any:
    result = s.own_state.delay("CUSTOM", {"kept": [1]})
    eventually(lambda: result.state, lambda state: state not in ("PENDING", "STARTED"))
    return [result.state, result.info, result.ready()]


@probe
def a_failure_that_a_task_stores_itself() -> Any:
    result = s.own_state.delay(
        "FAILURE", {"exc_type": "ValueError", "exc_message": ["by hand"], "exc_module": "builtins"}
    )
    eventually(lambda: result.state, lambda state: state not in ("PENDING", "STARTED"))
    return [result.state, result.result, raised(lambda: result.get(timeout=WAIT))]


@probe
def ignore_leaves_it_pending() -> Any:
    key = fresh()
    result = s.ignores.delay(key)
    ran = eventually(lambda: notes(key))
    found = raised(lambda: result.get(timeout=1))
    return [ran, found, app.AsyncResult(result.id).state]


@probe
def reject_fails_it() -> Any:
    key = fresh()
    result = s.rejects.delay(key, False)
    ran = eventually(lambda: notes(key))
    stored = eventually(lambda: app.AsyncResult(result.id).result, lambda found: type(found).__name__ == "Reject", 10)
    return [ran, stored, app.AsyncResult(result.id).state]


@probe
def reject_with_requeue_runs_it_again() -> Any:
    key = fresh()
    result = s.rejects.delay(key, True)
    return [result.get(timeout=WAIT), len(notes(key))]


@probe
def a_task_that_waits_until_it_is_redelivered() -> Any:
    key = fresh()
    result = s.rejects_until_redelivered.delay(key)
    return [result.get(timeout=WAIT), notes(key)]


@probe
def started_with_track_started() -> Any:
    key = fresh()
    result = s.started.delay(key)
    eventually(lambda: notes(key))
    seen = [result.state, sorted(result.info or {})]
    release(key)
    return [seen, result.get(timeout=WAIT)]


@probe
def a_running_task_without_track_started() -> Any:
    key = fresh()
    result = t.held.delay(key)
    eventually(lambda: notes(key))
    seen = [result.state, result.info]
    release(key)
    return [seen, result.get(timeout=WAIT)]


@probe
def a_result_that_somebody_else_stores() -> Any:
    chosen = fresh()
    app.backend.store_result(chosen, {"from": "outside"}, "SUCCESS")
    result = app.AsyncResult(chosen)
    return [result.state, result.get(timeout=WAIT)]


@probe
def a_failure_that_somebody_else_stores() -> Any:
    chosen = fresh()
    app.backend.mark_as_failure(chosen, ValueError("outside"), traceback="a trace")
    result = app.AsyncResult(chosen)
    return [result.state, raised(lambda: result.get(timeout=WAIT)), result.traceback]


@probe
def marks_of_the_backend() -> Any:
    done, started, revoked = fresh(), fresh(), fresh()
    app.backend.mark_as_done(done, 5)
    app.backend.mark_as_started(started, note=1)
    app.backend.mark_as_revoked(revoked, "why")
    return [[app.AsyncResult(chosen).state, app.AsyncResult(chosen).result] for chosen in (done, started, revoked)]


@probe
def an_abortable_task_that_is_aborted() -> Any:
    key = fresh()
    result = s.abortable.delay(key)
    eventually(lambda: notes(key))
    handle = AbortableAsyncResult(result.id)
    before = handle.is_aborted()
    handle.abort()
    return [before, result.get(timeout=WAIT), result.state]


@probe
def an_abortable_task_that_is_left_alone() -> Any:
    key = fresh()
    result = s.abortable.delay(key)
    eventually(lambda: notes(key))
    seen = [type(result).__name__, result.is_aborted()]
    release(key)
    return [seen, result.get(timeout=WAIT)]
