"""Signals: which ones come, with what, for each way in which a task ends."""

from __future__ import annotations

from typing import Any

from tests.kit.conformance.probing import WAIT, eventually, fresh, probe
from tests.kit.conformance.project import app, signals
from tests.kit.conformance.project.notes import notes


def heard(how: str, last: tuple[str, int], **options: Any) -> Any:
    """Return all signals of a call as soon as the last one has come so often, sorted: processes note on their own."""
    result = signals.signalling.apply_async((how,), **options)
    name, count = last

    def all_there(found: list[Any]) -> bool:
        return sum(one[0] == name for one in found) >= count

    return sorted(eventually(lambda: notes(f"signals:{result.id}"), all_there), key=repr)


@probe
def signals_of_a_success() -> Any:
    return heard("fine", ("postrun", 1))


@probe
def signals_of_a_failure() -> Any:
    return heard("fail", ("postrun", 1))


@probe
def signals_of_a_retry() -> Any:
    return [one for one in heard("retry", ("postrun", 2)) if "publish" not in one[0] and one[0] != "received"]


@probe
def signals_of_publishing_a_retry() -> Any:
    found = [one[0] for one in heard("retry", ("postrun", 2))]
    return [found.count(name) for name in ("before_publish", "after_publish", "received")]


@probe
def signals_of_a_rejected_task() -> Any:
    return heard("reject", ("failure", 1))


@probe
def signals_of_a_time_limit() -> Any:
    found = heard("long", ("failure", 1), time_limit=1)
    # The process that is killed and the one that kills it may both tell of the failure.
    return [one for number, one in enumerate(found) if one[0] != "postrun" and one not in found[:number]]


@probe
def signals_of_a_revoked_task() -> Any:
    result = signals.signalling.apply_async(("fine",), countdown=6)
    result.revoke()
    found = eventually(lambda: notes(f"signals:{result.id}"), lambda all_: any(one[0] == "revoked" for one in all_))
    return [one for one in sorted(found, key=repr) if "publish" not in one[0]]


@probe
def signals_of_an_expired_task() -> Any:
    found = heard("fine", ("revoked", 1), countdown=1, expires=0.2)
    return [one for one in found if "publish" not in one[0] and one[0] != "received"]


@probe
def signals_of_an_eager_call() -> Any:
    result = signals.signalling.apply(("fine",))
    return notes(f"signals:{result.id}")


@probe
def a_message_that_is_not_a_task_is_rejected() -> Any:
    mark = fresh()
    with app.producer_or_acquire() as producer:
        producer.publish({"no": mark}, routing_key="side", serializer="json")
    return eventually(lambda: notes("rejected"))


@probe
def signals_of_the_workers_start() -> Any:
    return sorted(set(eventually(lambda: notes("worker"), lambda found: "ready" in found)))


@probe
def a_signature_publishes_with_signals() -> Any:
    result = signals.signalling.si("fine").apply_async(shadow="x")
    result.get(timeout=WAIT)
    found = eventually(lambda: notes(f"signals:{result.id}"), lambda all_: len(all_) >= 5)
    return sorted(one[0] for one in found)
