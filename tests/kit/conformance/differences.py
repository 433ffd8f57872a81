"""The outcomes that differ from those of stock Celery, by their reason; docs/celery.md shows this table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One reason, and the probes that it changes on each side."""

    #: What is different, as docs/celery.md says it.
    reason: str
    probes: Mapping[str, Sequence[str]]


def on_both(reason: str, *names: str) -> Difference:
    """Return a difference that an adopted app and our own have."""
    return Difference(reason, {"adopted": names, "own": names, "direct": names})


def on_own(reason: str, *names: str) -> Difference:
    """Return a difference that only our own app has, with its pool, its queue and its result backend."""
    return Difference(reason, {"own": names, "direct": names})


def on_direct(reason: str, *names: str) -> Difference:
    """Return a difference that only the direct path has, since nobody listens there."""
    return Difference(reason, {"direct": names})


DIFFERENCES: Sequence[Difference] = (
    on_both(
        "A message goes to its queue by name, so a task does not see by which exchange and routing key it was routed",
        "exchange_and_routing_key_of_a_topic",
    ),
    on_both(
        "A retry waits in the store: no second message is published for it, and its parent stays the same",
        "a_retry_is_the_same_call",
        "signals_of_publishing_a_retry",
    ),
    on_both(
        "`retry(throw=False)` runs the task again when it returns; what it returns then counts",
        "retry_that_does_not_throw",
    ),
    on_both(
        "An exception that is not an `Exception`, such as `SystemExit`, fails its task and does not end the process",
        "a_base_exception",
        "a_system_exit",
    ),
    on_both(
        "The traceback names the class of an exception that cannot be pickled",
        "an_exception_class_in_a_function",
        "an_exception_that_cannot_be_made_again",
    ),
    on_both(
        "The store, not a worker, ends what is revoked or expired before it runs, and the texts are others",
        "expired_by_a_moment_it_is_revoked",
        "expired_by_seconds_it_is_revoked",
        "revoke_of_several_ids",
    ),
    on_own("`revoke` of a running task stops it, without `terminate` too", "revoked_while_it_runs_it_goes_on"),
    on_both("A call of an id that waits already changes nothing", "an_id_called_again_while_it_waits"),
    Difference(
        "A task that is terminated is stored in other words",
        {side: ["terminated_while_it_runs"] for side in ("adopted", "own", "direct")},
    ),
    Difference(
        "A task shows `reject_on_worker_lost`: it runs again if its process dies",
        {"adopted": ["attributes_of_a_task"]},
    ),
    on_own(
        "The app has defaults of its own: the queue `default`, priority 9, late acknowledgement, `track_started`, UTC",
        "attributes_of_a_task",
        "inspect_active_shows_what_runs",
        "the_amqp_of_the_app",
        "the_priority_of_a_plain_call",
        "the_queue_and_exchange_of_a_plain_call",
        "the_schedule_of_the_configuration",
        "whether_it_is_acknowledged_late",
    ),
    on_own(
        "The record decides: a result is kept in spite of `ignore_result`, `forget` leaves the record, and a task that"
        " raised `Ignore` has succeeded",
        "forget_makes_it_unknown",
        "forget_of_a_group",
        "ignore_leaves_it_pending",
        "ignore_result_of_a_call_keeps_nothing",
        "ignore_result_of_the_decorator_keeps_nothing",
        "retry_that_ignores_the_result",
    ),
    on_own(
        "The record says that a task has started, without `track_started`, and not in which process",
        "a_running_task_without_track_started",
        "marks_of_the_backend",
        "started_with_track_started",
    ),
    on_own(
        "`get_task_meta` has the number of the attempt",
        "the_meta_that_the_backend_keeps_of_a_failure",
        "the_meta_that_the_backend_keeps_of_a_success",
    ),
    on_own("The pool of its own tells about itself in `inspect stats`", "inspect_stats_of_the_pool"),
    on_own("In the pool of its own, a task may wait for another", "waiting_in_a_task_is_forbidden"),
    on_direct(
        "Its worker has no receivers of the signals that Celery sends for each task",
        "a_signature_publishes_with_signals",
        "signals_of_a_failure",
        "signals_of_a_rejected_task",
        "signals_of_a_retry",
        "signals_of_a_success",
        "signals_of_a_time_limit",
        "signals_of_an_eager_call",
    ),
    on_both("`celery report` names the platform's transport", "celery_report_names_transport_and_results"),
)


def reason_of(side: str, name: str) -> str | None:
    """Return why an outcome is different; None: it is the same."""
    return next((one.reason for one in DIFFERENCES if name in one.probes.get(side, ())), None)
