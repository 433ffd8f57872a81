"""Rules on the project's tasks, queues and schedules: what has a record, and how lost and repeated runs count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from celery import Task

from celeriac.settings import GROUP_NAME
from celeriac_tasks.compatibility.finding import Examined, Finding, as_it_is, different, listed

#: What receives the messages of tasks with records.
_OURS: Final = "celeriac_tasks.engine.calls.arrivals:strategy"
_SCHEDULERS: Final = {
    "celery.beat:PersistentScheduler": "Celery's own",
    "celery.beat.PersistentScheduler": "Celery's own",
    "celery.beat:Scheduler": "Celery's own",
    "django_celery_beat.schedulers:DatabaseScheduler": "django-celery-beat's",
    "django_celery_beat.schedulers.DatabaseScheduler": "django-celery-beat's",
    "redbeat.RedBeatScheduler": "RedBeat's",
    "redbeat:RedBeatScheduler": "RedBeat's",
    "redbeat.schedulers:RedBeatScheduler": "RedBeat's",
}


def tasks_of(app: Any) -> Mapping[str, Any]:
    """Return the project's tasks that are known so far; Celery's own are left out."""
    return {name: task for name, task in app._tasks.items() if not name.startswith("celery.")}


def unrecorded(examined: Examined) -> Iterator[Finding]:
    """Say which tasks have no records, and that all others have them."""
    tasks = tasks_of(examined.app)
    odd = {name: task for name, task in tasks.items() if task.Strategy not in (Task.Strategy, _OURS)}
    if odd:
        yield different(
            "tasks",
            f"these run without a record, because their class receives messages in its own way (Strategy):"
            f" {listed(odd)}",
        )
    if rest := len(tasks) - len(odd):
        yield as_it_is("tasks", f"{rest} {'task runs' if rest == 1 else 'tasks run'} as before, with a record each")


def own_classes(examined: Examined) -> Iterator[Finding]:
    """Say that base classes count."""
    base = examined.app.Task
    found = {
        ancestor.__qualname__
        for task in tasks_of(examined.app).values()
        for ancestor in type(task).__mro__[1:]
        if ancestor not in (Task, object, base) and not ancestor.__module__.startswith(("celeriac", "celery."))
    }
    if found:
        yield as_it_is("base classes", f"{listed(found)}: what they override counts, `__call__` included")


def repeated_runs(examined: Examined) -> Iterator[Finding]:
    """Name the tasks that would run again without end."""
    endless = [name for name, task in tasks_of(examined.app).items() if task.max_retries is None]
    if endless:
        yield different(
            "max_retries",
            f"None means without end, also for runs that are lost with their worker: set a number for"
            f" {listed(endless)}",
        )


def limits(examined: Examined) -> Iterator[Finding]:
    """Say that time limits and rate limits hold."""
    conf, tasks = examined.app.conf, tasks_of(examined.app).values()
    if conf.task_time_limit or conf.task_soft_time_limit or any(t.time_limit or t.soft_time_limit for t in tasks):
        yield as_it_is("time limits", "hold in every pool; a task beyond its hard limit fails, and its record says so")
    if conf.task_default_rate_limit or any(task.rate_limit for task in tasks):
        yield as_it_is(
            "rate limits",
            "hold in each worker, as before; `celeriac groups` has limits that hold over all workers together",
        )


def queues(examined: Examined) -> Iterator[Finding]:
    """Say which queues have records."""
    kinds = _kinds_of_queues(examined.app.conf)
    fanout = [name for name, kind in kinds.items() if kind == "fanout"]
    kept = [name for name in kinds if name not in fanout]
    bad = [name for name in kept if GROUP_NAME.fullmatch(name) is None]
    if good := [name for name in kept if name not in bad]:
        yield as_it_is("task_queues", f"stay, each as a group of its name: {listed(good)}")
    if bad:
        yield different(
            "task_queues",
            "run their tasks, but the API and the command line do not accept their names (1 to 128 letters, digits and"
            f" _ . : -, beginning with a letter or digit): rename {listed(bad)}",
        )
    if fanout:
        yield different(
            "task_queues", f"broadcasts have no records and run once in each worker, as before: {listed(fanout)}"
        )


def _kinds_of_queues(conf: Any) -> dict[str, str]:
    """Return the type of exchange of each queue that the configuration names.

    It reads the configuration itself: `app.amqp.queues` would keep what it finds now.
    """
    given, usual = conf.task_queues or {}, conf.task_default_exchange_type
    if isinstance(given, Mapping):
        kinds = {str(name): str(dict(options).get("exchange_type") or usual) for name, options in given.items()}
    else:
        kinds = {str(queue.name): str(getattr(queue.exchange, "type", None) or usual) for queue in given}
    return kinds or {str(conf.task_default_queue): usual}


def schedules(examined: Examined) -> Iterator[Finding]:
    """Say who fires the schedules."""
    app = examined.app
    chosen, entries = str(app.conf.beat_scheduler), len(app.conf.beat_schedule or {})
    if chosen.startswith("celeriac"):
        yield as_it_is("beat_scheduler", "fires its entries as definitions")
    elif chosen in _SCHEDULERS:
        yield as_it_is(
            "beat_scheduler",
            f"{_SCHEDULERS[chosen]} scheduler goes on with `celery beat`, and each firing has a record"
            f" (`celeriac adopt --import-schedules` moves them into definitions)",
        )
    else:
        yield as_it_is("beat_scheduler", f"{chosen:.100} goes on with `celery beat`, and each firing has a record")
    if entries:
        yield as_it_is(
            "beat_schedule", f"{entries} {'entry goes' if entries == 1 else 'entries go'} on with `celery beat`"
        )
