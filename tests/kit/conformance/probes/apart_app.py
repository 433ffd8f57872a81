"""Apps: several of them in one process, configuration, eager mode, a worker in the process of a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import celery
from celery import Celery, chain, chord, current_app, group, shared_task
from celery.contrib.testing import tasks as testing_tasks  # noqa: F401 - start_worker calls `celery.ping`
from celery.contrib.testing.worker import start_worker

from tests.kit.conformance.probing import WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import classes as c
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


@contextlib.contextmanager
def configured(**settings: Any) -> Iterator[None]:
    """Change the configuration for a while."""
    before = {name: app.conf[name] for name in settings}
    app.conf.update(settings)
    try:
        yield
    finally:
        app.conf.update(before)


@probe
def always_eager() -> Any:
    with configured(task_always_eager=True):
        result = t.add.delay(1, 2)
        return [type(result).__name__, result.get(), t.failing.delay().state, raised(lambda: t.failing.delay().get())]


@probe
def always_eager_that_propagates() -> Any:
    with configured(task_always_eager=True, task_eager_propagates=True):
        return [raised(lambda: t.failing.delay()), t.add.delay(1, 1).get()]


@probe
def always_eager_canvas() -> Any:
    with configured(task_always_eager=True):
        return [
            chain(t.add.s(1, 2), t.add.s(3)).delay().get(),
            group(t.add.s(1, 2), t.add.s(3, 3)).delay().get(),
            chord([t.add.s(1, 2), t.add.s(3, 3)], t.tsum.s()).delay().get(),
            chain(t.add.s(1, 1), group(t.add.s(1), t.add.s(2)), t.tsum.s()).delay().get(),
        ]


@probe
def always_eager_with_retries() -> Any:
    with configured(task_always_eager=True):
        return [s.again.delay(2).get(), s.auto.delay(1).get(), raised(lambda: s.again.delay(9, "exc").get())]


@probe
def always_eager_with_links() -> Any:
    key, bad = fresh(), fresh()
    with configured(task_always_eager=True):
        t.add.apply_async((1, 2), link=t.note_last.s(key))
        t.failing.apply_async(link_error=t.errback.s(key=bad))
    return [notes(key), notes(bad)]


@probe
def always_eager_with_a_stored_result() -> Any:
    with configured(task_always_eager=True, task_store_eager_result=True):
        result = t.add.delay(1, 2)
        return [app.AsyncResult(result.id).state, app.AsyncResult(result.id).result]


@probe
def always_eager_with_handlers() -> Any:
    with configured(task_always_eager=True):
        result = c.told.delay("fine")
        return [result.get(), [one[0] for one in notes(f"handlers:{result.id}")]]


@probe
def always_eager_runs_a_class_based_task() -> Any:
    with configured(task_always_eager=True):
        return [c.by_class.delay(1).get(), c.around.delay(1).get(), c.calling.delay(1).get()]


@probe
def send_task_is_never_eager() -> Any:
    with configured(task_always_eager=True):
        return type(app.send_task("add", (1, 1))).__name__


@probe
def another_app_in_the_process() -> Any:
    other = Celery("other", broker="memory://", backend="cache+memory://", set_as_current=False)

    @other.task(name="other.task")
    def twice(x: int) -> int:
        return 2 * x

    return [
        *(twice.apply((2,)).get(), twice.app is other, "other.task" in app.tasks, "add" in other.tasks),
        *(type(twice).__mro__[1].__module__, current_app.main == app.main, isinstance(twice, app.Task)),
    ]


@probe
def another_app_that_becomes_the_current_one() -> Any:
    other = Celery("other", broker="memory://")
    seen = [current_app.main, celery.current_app.main]
    app.set_current()
    back = [current_app.main == app.main]
    other.set_default()
    app.set_default()
    return [seen, back]


@probe
def a_shared_task_in_two_apps() -> Any:
    @shared_task(name="in_both")
    def in_both() -> int:
        return 1

    other = Celery("other two", set_as_current=False)
    other.finalize()
    return ["in_both" in app.tasks, "in_both" in other.tasks, other.tasks["in_both"].app is other]


@probe
def the_amqp_of_the_app() -> Any:
    routed = app.amqp.router.route({}, "routed.about")
    return [
        routed["queue"].name,
        sorted(app.amqp.queues)[:3],
        app.amqp.router.route({}, "add")["queue"].name == app.conf.task_default_queue,
    ]


@probe
def the_address_of_the_broker() -> Any:
    with app.connection_for_write() as connection:
        return [connection.as_uri().partition("://")[0], connection.transport.driver_type, connection.connected]


@probe
def a_signature_from_the_app() -> Any:
    return [
        app.signature("add", (1,)).task,
        app.canvas if hasattr(app, "canvas") else None,
        app.Task.__name__,
        app.main is not None,
    ]


@probe
def the_kinds_of_results_of_the_app() -> Any:
    return [kind.__name__ for kind in (app.AsyncResult, app.ResultSet, app.GroupResult)]


@probe
def select_queues_and_their_names() -> Any:
    return [name in app.amqp.queues for name in ("routed", "side", "media")]


@probe
def a_worker_in_the_process_of_a_test() -> Any:
    with start_worker(app, pool="solo", perform_ping_check=True) as worker:
        return [
            *(
                type(worker).__name__,
                t.add.delay(1, 2).get(timeout=WAIT),
                raised(lambda: t.failing.delay().get(timeout=WAIT)),
            ),
            *(chain(t.add.s(1, 2), t.add.s(3)).delay().get(timeout=WAIT), s.again.delay(1).get(timeout=WAIT)),
            *(chord([t.add.s(1, 2)], t.tsum.s()).delay().get(timeout=WAIT), c.told.delay("fine").get(timeout=WAIT)),
        ]


@probe
def priorities_of_calls_and_retries() -> Any:
    # Here no other messages are in the queues: on Redis, they would be served before a priority of 3.
    with start_worker(app, perform_ping_check=False):
        called = t.about.apply_async(priority=3)
        changed = s.with_options.apply_async(kwargs={"options": {"priority": 7}})
        kept = s.with_options.apply_async(kwargs={"options": {}}, priority=4)
        return [result.get(timeout=WAIT)["priority"] for result in (called, changed, kept)]


@probe
def a_worker_of_threads_in_the_process_of_a_test() -> Any:
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
        results = [t.busy.delay(0.2), t.add.delay(1, 2)]
        return [result.get(timeout=WAIT) for result in results]


@probe
def a_second_worker_after_the_first() -> Any:
    key = fresh()
    with start_worker(app, perform_ping_check=False):
        first = t.add.delay(1, 2).get(timeout=WAIT)
    t.noted.delay(key)
    before = notes(key)
    with start_worker(app, perform_ping_check=False):
        return [first, before, eventually(lambda: notes(key))]
