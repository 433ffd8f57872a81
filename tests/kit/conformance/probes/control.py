"""`app.control`, `inspect`, events and beat, as a project and its operators use them."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery.schedules import crontab, schedule

from tests.kit.conformance.probing import LATER, WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes, release

#: Seconds for which a probe waits for the answer of the worker.
ANSWER = 20.0


def asked(method: str, *arguments: Any, **options: Any) -> Any:
    """Return the answer of the only worker to a question."""
    answers = getattr(app.control.inspect(timeout=ANSWER, limit=1), method)(*arguments, **options)
    return next(iter(answers.values())) if answers else None


def told(method: str, *arguments: Any, **options: Any) -> Any:
    """Return the answer of the only worker to a command."""
    answers = getattr(app.control, method)(*arguments, reply=True, timeout=ANSWER, limit=1, **options)
    return next(iter(answers[0].values())) if answers else None


@probe
def ping_of_workers() -> Any:
    return [asked("ping"), [list(answer.values()) for answer in app.control.ping(timeout=ANSWER, limit=1)]]


@probe
def inspect_active_shows_what_runs() -> Any:
    key = fresh()
    result = t.held.delay(key, value=1)
    eventually(lambda: notes(key))
    # The worker hears a moment later than the task that it runs.
    (found,) = eventually(lambda: [one for one in asked("active") if one["id"] == result.id])
    release(key)
    return [
        *(sorted(found), found["name"], len(found["args"]), found["kwargs"], found["acknowledged"]),
        *(found["delivery_info"]["routing_key"] == app.conf.task_default_queue, bool(found["worker_pid"])),
    ]


@probe
def inspect_scheduled_shows_what_waits_for_its_time() -> Any:
    result = t.add.apply_async((1, 2), countdown=600)
    found = eventually(lambda: [one for one in asked("scheduled") or [] if one["request"]["id"] == result.id])
    result.revoke()
    return [sorted(found[0]), found[0]["request"]["name"], found[0]["request"]["args"]] if found else "not shown"


@probe
def inspect_revoked_shows_what_was_revoked() -> Any:
    result = t.add.apply_async((1, 2), countdown=600)
    result.revoke()
    return result.id in eventually(lambda: asked("revoked"), lambda found: result.id in (found or []))


@probe
def inspect_registered() -> Any:
    found = asked("registered")
    return [
        [name in found for name in ("add", "by_class", "shared_add")],
        # Other probes change the rate limit of `limited` meanwhile.
        [one for one in found if one.startswith("annotated")],
    ]


@probe
def inspect_registered_with_attributes() -> Any:
    found = asked("registered", "max_retries")
    return [one for one in found if one.startswith(("annotated", "again "))]


@probe
def inspect_registered_names_celerys_own_tasks() -> Any:
    return sorted(one for one in asked("registered") if one.startswith("celery."))


@probe
def inspect_stats() -> Any:
    t.add.delay(1, 1).get(timeout=WAIT)
    found = asked("stats")
    return [sorted(found), bool(found["total"].get("add")), found["prefetch_count"] > 0]


@probe
def inspect_stats_of_the_pool() -> Any:
    return sorted(asked("stats")["pool"])


@probe
def inspect_active_queues() -> Any:
    found = asked("active_queues")
    names = {one["name"] for one in found}
    return [sorted(found[0]), sorted(names & {"routed", "side", "media"}), app.conf.task_default_queue in names]


@probe
def inspect_query_task() -> Any:
    key = fresh()
    result = t.held.delay(key)
    eventually(lambda: notes(key))
    found = eventually(lambda: asked("query_task", result.id), lambda all_: all_.get(result.id, [None])[0] == "active")
    release(key)
    state, about = found[result.id]
    return [state, about["name"]]


@probe
def inspect_conf() -> Any:
    found = asked("conf")
    return [found["result_extended"], found["worker_send_task_events"]]


@probe
def inspect_report() -> Any:
    return sorted(asked("report"))


@probe
def inspect_clock_and_memory() -> Any:
    return [sorted(asked("clock")), asked("clock")["clock"] > 0]


@probe
def a_question_of_the_project() -> Any:
    answers = app.control.broadcast("colours", reply=True, timeout=ANSWER, limit=1)
    return list(answers[0].values())


@probe
def a_command_of_the_project() -> Any:
    return [
        app.control.broadcast("paint", arguments={"n": 3}, reply=True, timeout=ANSWER, limit=1)[0].popitem()[1],
        notes("painted"),
    ]


@probe
def a_command_that_nobody_knows() -> Any:
    answers = app.control.broadcast("no_such_command", reply=True, timeout=ANSWER, limit=1)
    return list(answers[0].values())


@probe
def rate_limit_by_control() -> Any:
    return [
        told("rate_limit", "limited", "100/s"),
        told("rate_limit", "nobody", "1/s"),
        raised(lambda: t.limited.delay().get(timeout=WAIT)),
    ]


@probe
def time_limit_by_control() -> Any:
    return [told("time_limit", "moved", hard=60, soft=30), told("time_limit", "nobody", hard=1)]


@probe
def a_consumer_added_and_cancelled() -> Any:
    queue = f"late-{fresh()}"
    added = told("add_consumer", queue)
    result = t.add.apply_async((1, 1), queue=queue)
    return [added, result.get(timeout=WAIT), told("add_consumer", queue), told("cancel_consumer", queue)]


@probe
def revoke_of_several_ids() -> Any:
    ids = [fresh(), fresh()]
    for chosen in ids:
        t.add.apply_async((1, 1), countdown=LATER, task_id=chosen)
    told_ = told("revoke", ids)
    return [
        told_,
        [type(raised(lambda chosen=chosen: app.AsyncResult(chosen).get(timeout=WAIT))).__name__ for chosen in ids],
    ]


@probe
def revoke_before_the_call() -> Any:
    chosen = fresh()
    told("revoke", chosen)
    result = t.add.apply_async((1, 1), task_id=chosen)
    return raised(lambda: result.get(timeout=WAIT))


@probe
def events_on_and_off() -> Any:
    return told("enable_events")


@probe
def heartbeat_by_control() -> Any:
    return [list(answer.values()) for answer in app.control.heartbeat(reply=True, timeout=ANSWER, limit=1)]


@probe
def events_of_a_task() -> Any:
    return sorted(event["type"] for event in _events_of_one())


@probe
def fields_of_events() -> Any:
    return {event["type"]: sorted(event) for event in _events_of_one()}


def _events_of_one() -> list[dict[str, Any]]:
    """Call a task, and return what monitors are told of it until its last event."""
    chosen, seen, heard = fresh(), [], []
    # The publisher says that it has sent the message when a worker may have run it already.
    last = {"task-succeeded"} | ({"task-sent"} if app.conf.task_send_sent_event else set())

    def take(event: dict[str, Any]) -> None:
        # Who hears anything is subscribed.
        heard.append(event["type"])
        if event.get("uuid") == chosen:
            seen.append(event)

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": take})
        with receiver.consumer_context() as (drained, _, _):
            eventually(lambda: _drained(drained) and heard)
            t.add.apply_async((1, 1), task_id=chosen)
            eventually(lambda: _drained(drained) and last <= {event["type"] for event in seen})
    return seen


def _drained(connection: Any) -> bool:
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.2)
    return True


# --- beat


def beats(which: str) -> Any:
    found = eventually(lambda: notes(f"beat:{which}"), lambda all_: len(all_) >= 2)
    return [found[0], len(found) >= 2]


@probe
def an_entry_of_the_schedule_runs_again_and_again() -> Any:
    found, often = beats("entry")
    return [found[0], found[1] == app.conf.task_default_queue, often]


@probe
def an_entry_with_options() -> Any:
    return beats("queue")


@probe
def a_periodic_task_added_in_code() -> Any:
    return beats("added")[0][0]


@probe
def the_schedule_of_the_configuration() -> Any:
    found = app.conf.beat_schedule
    return [sorted(found), repr(crontab(minute="*/5")), repr(schedule(timedelta(seconds=5))), app.conf.timezone]
