"""Retries: `self.retry()` with all that it takes, `autoretry_for` and its relatives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import chain, chord, group

from tests.kit.conformance.probing import SOON, WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


def told(kwargs: dict[str, Any] | None = None, /, **options: Any) -> Any:
    return s.with_options.apply_async(kwargs={"options": options}, **(kwargs or {})).get(timeout=WAIT)


@probe
def retry_until_it_works() -> Any:
    return s.again.delay(2).get(timeout=WAIT)


@probe
def retry_too_often_without_an_exception() -> Any:
    result = s.again.delay(9)
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def retry_too_often_with_an_exception() -> Any:
    result = s.again.delay(9, "exc")
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def retry_in_an_except_block_raises_the_cause_at_the_end() -> Any:
    return raised(lambda: s.retry_from_error.delay().get(timeout=WAIT))


@probe
def the_state_between_two_runs() -> Any:
    key = fresh()
    result = s.waits_to_retry.delay(key)
    waiting = eventually(lambda: app.AsyncResult(result.id), lambda found: found.state == "RETRY" and found.traceback)
    seen = [waiting.state, waiting.info, waiting.ready(), bool(waiting.traceback)]
    return [seen, result.get(timeout=WAIT), notes(key)]


@probe
def retry_that_does_not_throw() -> Any:
    key = fresh()
    result = s.without_throw.delay(key)
    ran = eventually(lambda: notes(key), lambda found: len(found) == 2)
    return [ran, result.get(timeout=WAIT)]


@probe
def retry_with_a_countdown() -> Any:
    return told(countdown=0.2)["args"]


@probe
def retry_with_an_eta() -> Any:
    return told({"serializer": "pickle"}, eta=datetime.now(UTC) + timedelta(seconds=0.5))["args"]


@probe
def retry_on_another_queue() -> Any:
    return told(queue="side")["queue"]


@probe
def retry_keeps_the_queue() -> Any:
    return told({"queue": "side"})["queue"]


@probe
def retry_with_headers() -> Any:
    return told(headers={"x-own": "new"})["own"]


@probe
def retry_keeps_headers() -> Any:
    return told({"headers": {"x-own": "old"}})["own"]


@probe
def retry_with_expires() -> Any:
    return told(expires=60)["expires"]


@probe
def retry_with_time_limits() -> Any:
    return told(time_limit=44, soft_time_limit=33)["limits"]


@probe
def retry_keeps_time_limits() -> Any:
    return told({"time_limit": 55, "soft_time_limit": 50})["limits"]


@probe
def retry_with_a_link() -> Any:
    key = fresh()
    told({"serializer": "pickle"}, link=t.noted.si(key, "linked"))
    return eventually(lambda: notes(key))


@probe
def retry_keeps_the_link_and_calls_it_once() -> Any:
    key = fresh()
    s.again.apply_async((2,), link=t.note_last.s(key)).get(timeout=WAIT)
    return eventually(lambda: notes(key))


@probe
def retry_keeps_the_link_error_and_calls_it_once() -> Any:
    key = fresh()
    result = s.again.apply_async((9, "exc"), link_error=t.errback.s(key=key))
    result.get(timeout=WAIT, propagate=False)
    return eventually(lambda: notes(key))


@probe
def retry_that_ignores_the_result() -> Any:
    result = s.with_options.apply_async(kwargs={"options": {"ignore_result": True}})
    return raised(lambda: result.get(timeout=SOON))


@probe
def retry_keeps_the_shadow() -> Any:
    return told({"shadow": "shady"})["shadow"]


@probe
def retry_with_other_positional_arguments() -> Any:
    return s.with_arguments.delay(1, 2, args=[3, 4]).get(timeout=WAIT)


@probe
def retry_with_fewer_positional_arguments() -> Any:
    return s.with_arguments.delay(1, 2, args=[3]).get(timeout=WAIT)


@probe
def retry_with_positional_for_named() -> Any:
    return s.with_arguments.delay(1, b=2, args=[3, 4]).get(timeout=WAIT)


@probe
def retry_with_named_for_positional() -> Any:
    return s.with_arguments.delay(1, 2, kwargs={"b": 9}).get(timeout=WAIT)


@probe
def retry_with_other_named_arguments() -> Any:
    return s.with_arguments.delay(1, b=2, kwargs={"b": 9}).get(timeout=WAIT)


@probe
def retry_with_both_kinds_of_arguments() -> Any:
    return s.with_arguments.delay(1, 2, args=[7], kwargs={"b": 8}).get(timeout=WAIT)


@probe
def a_retry_is_the_same_call() -> Any:
    result = group(s.keeps_identity.s(fresh()).stamp(who="me"), t.add.s(1, 1)).apply_async()
    return result.get(timeout=WAIT)[0]


@probe
def retry_without_an_end() -> Any:
    return s.for_ever.delay(6).get(timeout=WAIT)


@probe
def retry_that_is_never_allowed() -> Any:
    return [
        raised(lambda: s.never_again.delay().get(timeout=WAIT)),
        raised(lambda: s.never_again_bare.delay().get(timeout=WAIT)),
    ]


@probe
def the_end_of_retries_can_be_caught() -> Any:
    return s.fallback.delay().get(timeout=WAIT)


@probe
def retry_of_a_call_as_a_function() -> Any:
    return [raised(lambda: s.again(3, "exc")), raised(lambda: s.again(3))]


@probe
def autoretry_for_a_class() -> Any:
    return [s.auto.delay(2).get(timeout=WAIT), raised(lambda: s.auto.delay(9, "sad").get(timeout=WAIT))]


@probe
def autoretry_of_another_class_fails_at_once() -> Any:
    result = s.auto.delay(9, "key")
    return [raised(lambda: result.get(timeout=WAIT)), app.AsyncResult(result.id).retries]


@probe
def autoretry_with_retry_kwargs() -> Any:
    return s.auto_kwargs.delay().get(timeout=WAIT)


@probe
def autoretry_with_backoff() -> Any:
    return s.auto_backoff.delay().get(timeout=WAIT)


@probe
def autoretry_for_all_but_one() -> Any:
    return [s.auto_but.delay("own").get(timeout=WAIT), raised(lambda: s.auto_but.delay("key").get(timeout=WAIT))]


@probe
def throws_is_a_failure() -> Any:
    result = s.expected.delay()
    return [raised(lambda: result.get(timeout=WAIT)), result.state, bool(result.traceback)]


@probe
def retry_in_a_chain() -> Any:
    return chain(s.again.si(1), t.pair.s("next")).apply_async().get(timeout=WAIT)


@probe
def retry_in_a_group() -> Any:
    return group(s.again.s(1), t.add.s(1, 1)).apply_async().get(timeout=WAIT)


@probe
def retry_in_the_header_of_a_chord() -> Any:
    return chord([s.again.s(1), t.identity.s("b")], t.pair.s()).apply_async().get(timeout=WAIT)


@probe
def retry_as_the_body_of_a_chord() -> Any:
    return chord([t.add.s(1, 1)], s.again.si(2)).apply_async().get(timeout=WAIT)


@probe
def retries_that_run_out_in_a_chord() -> Any:
    return raised(lambda: chord([s.again.s(9, "exc"), t.add.s(1, 1)], t.tsum.s()).apply_async().get(timeout=WAIT))
