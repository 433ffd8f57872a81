"""Rules on the configuration: a table of settings whose meaning changes, and what stays the project's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from celery import Celery

from celeriac_tasks.compatibility.broker import on_redis
from celeriac_tasks.compatibility.finding import Examined, Finding, Verdict, as_it_is, different, listed, not_possible
from celeriac_tasks.compatibility.project_tasks import tasks_of
from celeriac_tasks.own_pool import NAME as OWN_POOL

#: What the app of the platform, or one that is adopted already, has from us.
_OURS: Final = "celeriac_tasks."
#: The versions with which this is tested: name, prefix of the version, what to install.
_TESTED: Final = (("celery", "5.7.", "celery>=5.7,<5.8"), ("kombu", "5.7.", "kombu>=5.7,<5.8"))
_POOLS: Final = ("prefork", "solo", "threads")


class _Setting(NamedTuple):
    name: str
    verdict: Verdict
    #: Whether the rule holds for this value.
    holds: Callable[[Any], bool]
    sentence: str


def _is_set(value: Any) -> bool:
    return bool(value)


#: Settings that mean something else, and those that people ask about.
_SETTINGS: Final = (
    _Setting(
        "task_acks_late",
        Verdict.DIFFERENT,
        lambda value: not value,
        "a task that is lost with its worker runs again, up to its max_retries: where a second run does harm, set"
        " max_retries=0 for that task",
    ),
    _Setting(
        "task_acks_late",
        Verdict.AS_IT_IS,
        _is_set,
        "a task that is lost with its worker runs again, by its lease instead of the broker's timeout",
    ),
    _Setting(
        "task_reject_on_worker_lost",
        Verdict.AS_IT_IS,
        _is_set,
        "a task whose process dies runs again, and each lost run counts as an attempt",
    ),
    _Setting(
        "task_acks_on_failure_or_timeout",
        Verdict.DIFFERENT,
        lambda value: value is False,
        "has no effect: a task that failed or ran out of time has ended, so use self.retry() or autoretry_for to run"
        " it again",
    ),
    _Setting(
        "task_always_eager",
        Verdict.DIFFERENT,
        _is_set,
        "tasks run in the program that calls them and have no record: remove the setting outside tests",
    ),
    _Setting(
        "task_protocol",
        Verdict.DIFFERENT,
        lambda value: value == 1,
        "a call has its record only when a worker has received it: use protocol 2, which is the default",
    ),
    _Setting(
        "worker_deduplicate_successful_tasks",
        Verdict.AS_IT_IS,
        _is_set,
        "is not needed any more: a second message of a task that has ended is dropped",
    ),
    _Setting(
        "worker_consumer",
        Verdict.DIFFERENT,
        lambda value: value != "celery.worker.consumer:Consumer",
        "a consumer of your own stays, and must run the steps that the app adds (`app.steps`): check that"
        " `celery inspect` shows your tasks in the dashboard too",
    ),
    _Setting(
        "worker_state_db", Verdict.AS_IT_IS, _is_set, "stays; cancelled tasks are also kept in the records, without it"
    ),
    _Setting(
        "task_send_sent_event", Verdict.AS_IT_IS, _is_set, "task-sent events go to monitors such as Flower as before"
    ),
)


def versions(examined: Examined) -> Iterator[Finding]:
    """Say whether Celery and kombu are those that are tested."""
    del examined
    for package, tested, wanted in _TESTED:
        if not (found := version(package)).startswith(tested):
            yield different(package, f"version {found} is not tested: pip install '{wanted}'")


def the_app(examined: Examined) -> Iterator[Finding]:
    """Say what happens to an app class of the project's own."""
    own = [cls for cls in type(examined.app).__mro__ if issubclass(cls, Celery)]
    # The class that `adopt` makes has the name of the app's own, which may be Celery's.
    ours = (Celery.__module__, "celeriac_tasks.engine.app")
    names = [cls.__qualname__ for cls in own if cls.__module__ not in ours]
    if names:
        yield as_it_is("app", f"the class {names[0]} stays, with what it overrides")


def results(examined: Examined) -> Iterator[Finding]:
    """Say where results are."""
    backend = examined.app.conf.result_backend
    if not backend or backend == "disabled" or str(backend).startswith(_OURS):
        yield different(
            "result_backend",
            "none is set, so results can be read from now on: they lie beside the records, for as long as `retention`",
        )
    else:
        scheme = str(backend).split("://")[0].split(":")[0]
        yield as_it_is("result_backend", f"{scheme} stays, and the record has the result too if it is JSON")


def serializers(examined: Examined) -> Iterator[Finding]:
    """Say what the records show of calls that are not JSON."""
    conf = examined.app.conf
    used = {str(conf.task_serializer)} | {
        str(task.serializer) for name, task in tasks_of(examined.app).items() if task.serializer
    }
    if other := used - {"json"}:
        yield different(
            "task_serializer",
            f"{listed(other)} stays; the record shows the arguments of such calls as text, so use json where you want"
            " to read and search them",
        )
    else:
        yield as_it_is("task_serializer", "json stays, and the record shows the arguments")


def pool(examined: Examined) -> Iterator[Finding]:
    """Say which pool runs the tasks."""
    chosen = str(examined.app.conf.worker_pool)
    if chosen in _POOLS:
        yield as_it_is("worker_pool", f"{chosen} stays, with its limits, autoscaling and recycling of processes")
    elif chosen == "gevent":
        yield different(
            "worker_pool",
            "gevent must be chosen on the command line: start workers with `--pool gevent`, so that Celery prepares the"
            " process for it, and remove the setting",
        )
    elif chosen == "eventlet":
        yield not_possible("worker_pool", "eventlet is not supported: use gevent (`--pool gevent`), threads or prefork")
    elif chosen == OWN_POOL or chosen.startswith(_OURS):
        yield as_it_is("worker_pool", "the platform's own pool runs the tasks")
    else:
        yield different(
            "worker_pool",
            f"{chosen:.100} stays; cancelling and time limits of running tasks depend on what this pool can do, so"
            " try both once",
        )


def changed_settings(examined: Examined) -> Iterator[Finding]:
    """Yield what the table says of the app's settings."""
    conf = examined.app.conf
    for setting in _SETTINGS:
        if setting.holds(conf[setting.name]):
            yield Finding(setting.verdict, setting.name, setting.sentence)


def prefetching(examined: Examined) -> Iterator[Finding]:
    """Say that messages wait in their queue, not in a worker."""
    conf = examined.app.conf
    if on_redis(examined.app) and (conf.worker_disable_prefetch or not conf.value_set_for("worker_disable_prefetch")):
        yield different(
            "worker_prefetch_multiplier",
            "has no effect: a worker takes a message when a slot is free, so that no task waits behind a long one",
        )


def priorities(examined: Examined) -> Iterator[Finding]:
    """Say how priorities are served, if the project uses them."""
    conf = examined.app.conf
    used = conf.task_default_priority is not None or conf.task_queue_max_priority is not None
    if used and on_redis(examined.app):
        yield as_it_is(
            "task_default_priority", "0 is served first on Redis, as before; the dashboard shows 9 for the first one"
        )
