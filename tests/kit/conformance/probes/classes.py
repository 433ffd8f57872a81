"""Task classes: bases, class-based tasks, handlers, attributes."""

from __future__ import annotations

from typing import Any

from celery import current_app, shared_task
from celery.app.task import Task

from tests.kit.conformance.probing import WAIT, eventually, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import classes as c
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


def handlers(how: str, count: int) -> Any:
    """Call a task whose class notes its handlers; return the notes, each run in order."""
    result = c.told.delay(how, b=1)
    return eventually(lambda: notes(f"handlers:{result.id}"), lambda found: len(found) >= count)


@probe
def handlers_of_a_success() -> Any:
    return handlers("fine", 3)


@probe
def handlers_of_a_failure() -> Any:
    return handlers("fail", 3)


@probe
def handlers_of_a_retry() -> Any:
    return handlers("retry", 5)


@probe
def handlers_of_an_ignored_task() -> Any:
    return handlers("ignore", 1)


@probe
def a_shared_task() -> Any:
    return [t.shared_add.delay(1, 2).get(timeout=WAIT), "shared_add" in app.tasks]


@probe
def a_shared_task_with_a_base() -> Any:
    return c.shared_told.delay(4).get(timeout=WAIT)


@probe
def a_shared_task_made_later() -> Any:
    @shared_task(name="made_later")
    def made_later() -> int:
        return 5

    return [made_later.apply().get(), "made_later" in app.tasks]


@probe
def a_call_of_ones_own_around_the_run() -> Any:
    return [c.around.delay(1).get(timeout=WAIT), c.around(2)]


@probe
def a_call_of_ones_own_that_calls_run() -> Any:
    return [
        c.in_context.delay(1).get(timeout=WAIT),
        c.in_context(2),
        raised(lambda: c.in_context.delay(-1).get(timeout=WAIT)),
    ]


@probe
def an_eager_call_through_ones_own_call() -> Any:
    return [c.around.apply((1,)).get(), c.in_context.apply((1,)).get()]


@probe
def a_base_that_keeps_a_connection() -> Any:
    return [c.counting.delay().get(timeout=WAIT), c.counting.delay().get(timeout=WAIT)]


@probe
def a_class_based_task() -> Any:
    return [c.by_class.delay(3).get(timeout=WAIT), app.tasks["by_class"] is c.by_class]


@probe
def a_class_that_changes_each_call() -> Any:
    return [c.calling.delay(5).get(timeout=WAIT), c.calling.s(6).apply_async().get(timeout=WAIT)]


@probe
def a_class_that_reads_the_configuration() -> Any:
    return [c.from_config.delay().get(timeout=WAIT), c.from_config.enable_colour]


@probe
def a_class_that_is_told_when_it_is_bound() -> Any:
    return c.bound.delay().get(timeout=WAIT)


@probe
def the_name_of_a_task_that_has_none() -> Any:
    return [t.named_by_itself.name, t.named_by_itself.delay().get(timeout=WAIT)]


@probe
def the_name_inside_and_the_class() -> Any:
    return t.self_named.delay().get(timeout=WAIT)


@probe
def attributes_of_a_task() -> Any:
    names = (
        *("name", "max_retries", "default_retry_delay", "rate_limit", "time_limit", "soft_time_limit", "ignore_result"),
        *("store_errors_even_if_ignored", "track_started", "serializer", "typing", "throws", "expires", "priority"),
        *("acks_on_failure_or_timeout", "reject_on_worker_lost", "send_events", "abstract", "resultrepr_maxsize"),
    )
    return {name: getattr(t.add, name) for name in names}


@probe
def whether_it_is_acknowledged_late() -> Any:
    return [t.add.acks_late, app.conf.task_acks_late]


@probe
def a_task_is_a_task() -> Any:
    return [
        *(isinstance(t.add, Task), isinstance(t.add, app.Task), callable(t.add), t.add.__name__),
        *(t.add.__wrapped__(1, 2), t.add.app is app),
        *(isinstance(c.told, c.Told), issubclass(app.Task, Task), type(c.by_class).__name__),
    ]


@probe
def the_request_outside_of_a_task() -> Any:
    request = t.add.request
    return [request.id, request.called_directly, request.retries, request.is_eager]


@probe
def current_app_is_the_app() -> Any:
    return [current_app.main == app.main, current_app.tasks["add"].name, app.current_worker_task]


@probe
def the_repr_of_tasks_and_signatures() -> Any:
    return [repr(t.add.s(1, 2)), repr(t.add.s(1) | t.mul.s(2)), str(t.add.s(1)), repr(t.add).split(" of ")[0]]


@probe
def a_task_registered_twice_is_one() -> Any:
    again = app.task(name="add")(lambda x, y: x - y)
    return [again.name, again is app.tasks["add"]]
