"""Calls: `delay`, `apply_async` with each of its options, `send_task`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.result import AsyncResult
from kombu import Connection

from tests.kit.conformance.probing import A_WHILE, SOON, WAIT, Found, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


def about(*args: Any, **options: Any) -> dict[str, Any]:
    return t.about.apply_async(args, **options).get(timeout=WAIT)


@probe
def delay_with_positional_and_named_arguments() -> Any:
    return [t.add.delay(2, 3).get(timeout=WAIT), t.add.delay(2, y=5).get(timeout=WAIT)]


@probe
def the_request_of_a_plain_call() -> Any:
    told = about(1, "b", kwargs={"c": None})
    return {name: value for name, value in told.items() if name not in ("queue", "exchange", "priority")}


@probe
def the_queue_and_exchange_of_a_plain_call() -> Any:
    told = about()
    return [told["queue"], told["exchange"]]


@probe
def the_priority_of_a_plain_call() -> Any:
    return about()["priority"]


def while_it_waits(look: Callable[[float], Found]) -> Found:
    """Return what is found before a call is due: the look makes the call, and is told in how many seconds it is due.

    On a machine that stalls the look may come too late. Then it is repeated with a call that is due later.
    """
    due_s = 3.0
    while True:
        began = time.monotonic()
        found = look(due_s)
        if time.monotonic() - began < due_s - 0.2:
            return found
        due_s *= 2


@probe
def countdown_delays_and_shows_as_eta() -> Any:
    def look(due_s: float) -> tuple[list[Any], AsyncResult, float]:
        key, due_at = fresh(), time.monotonic() + due_s
        result = t.noted.apply_async((key,), countdown=due_s)
        return [result.state, notes(key)], result, due_at

    before, result, due_at = while_it_waits(look)
    return [before, result.get(timeout=WAIT), time.monotonic() >= due_at - 0.1]


@probe
def the_request_of_a_call_with_countdown() -> Any:
    return about(countdown=0.5)["eta"]


@probe
def eta_with_a_time_zone() -> Any:
    def look(due_s: float) -> tuple[str, AsyncResult, datetime]:
        moment = datetime.now(UTC) + timedelta(seconds=due_s)
        result = t.add.apply_async((1, 1), eta=moment)
        return result.state, result, moment

    state, result, moment = while_it_waits(look)
    return [state, result.get(timeout=WAIT), datetime.now(UTC) >= moment]


@probe
def eta_without_a_time_zone() -> Any:
    moment = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=1)
    return t.add.apply_async((1, 1), eta=moment).get(timeout=WAIT)


@probe
def eta_in_the_past_runs_at_once() -> Any:
    return t.add.apply_async((1, 2), eta=datetime.now(UTC) - timedelta(hours=1)).get(timeout=WAIT)


@probe
def expires_in_the_future_lets_it_run() -> Any:
    return about(expires=60)["expires"]


@probe
def expires_as_a_datetime_in_the_future() -> Any:
    return about(expires=datetime.now(UTC) + timedelta(minutes=1))["expires"]


@probe
def expired_by_seconds_it_is_revoked() -> Any:
    result = t.add.apply_async((1, 1), countdown=1, expires=0.2)
    return [raised(lambda: result.get(timeout=SOON)), result.state]


@probe
def expired_by_a_moment_it_is_revoked() -> Any:
    result = t.add.apply_async((1, 1), expires=datetime.now(UTC) - timedelta(seconds=5))
    return [raised(lambda: result.get(timeout=SOON)), result.state, result.successful(), result.ready()]


@probe
def expires_of_the_decorator() -> Any:
    return [t.expiring.delay().get(timeout=WAIT), t.expiring.expires]


@probe
def queue_by_name() -> Any:
    return about(queue="side")["queue"]


@probe
def exchange_and_routing_key_of_a_topic() -> Any:
    with app.producer_or_acquire() as producer:
        # Without this, kombu does not know in this process that the exchange is one for topics.
        app.amqp.queues["media"].bind(producer.channel).declare()
        told = about(exchange="media", routing_key="media.image.png", producer=producer)
    return [told["queue"], told["exchange"]]


@probe
def a_route_by_pattern() -> Any:
    return t.routed_about.delay().get(timeout=WAIT)


@probe
def the_queue_of_the_call_beats_the_route() -> Any:
    return t.routed_about.apply_async(queue="side").get(timeout=WAIT)


@probe
def a_task_id_of_ones_own() -> Any:
    chosen = fresh()
    result = t.request_field.apply_async(("id",), task_id=chosen)
    return [result.id == chosen, result.get(timeout=WAIT) == chosen, AsyncResult(chosen).get(timeout=WAIT) == chosen]


@probe
def a_task_id_that_is_not_a_uuid() -> Any:
    chosen = f"order 17/ä:{fresh()}"
    result = t.request_field.apply_async(("id",), task_id=chosen)
    return [result.get(timeout=WAIT) == chosen, app.AsyncResult(chosen).state]


@probe
def headers_of_ones_own() -> Any:
    return about(headers={"x-own": {"a": [1]}})["own"]


@probe
def shadow_names_it_otherwise() -> Any:
    return about(shadow="another name")["shadow"]


@probe
def arguments_shown_otherwise() -> Any:
    told = about(1, kwargs={"secret": 2}, argsrepr="(<hidden>)", kwargsrepr="{...}")
    return [told["argsrepr"], told["kwargsrepr"], told["args"], told["kwargs"]]


@probe
def ignore_result_of_a_call_is_in_the_request() -> Any:
    key = fresh()
    t.noted.apply_async((key,), ignore_result=True)
    return eventually(lambda: notes(key))


@probe
def ignore_result_of_a_call_keeps_nothing() -> Any:
    key = fresh()
    result = t.noted.apply_async((key,), ignore_result=True)
    eventually(lambda: notes(key))
    eventually(lambda: AsyncResult(result.id).ready(), timeout_s=A_WHILE)
    return [result.get(timeout=1), AsyncResult(result.id).state, result.ignored]


@probe
def ignore_result_of_the_decorator_keeps_nothing() -> Any:
    key = fresh()
    result = t.quiet.delay(key)
    eventually(lambda: notes(key))
    eventually(lambda: AsyncResult(result.id).ready(), timeout_s=A_WHILE)
    return [result.get(timeout=1), AsyncResult(result.id).state]


@probe
def a_call_may_ask_for_the_result_that_the_decorator_ignores() -> Any:
    return t.quiet.apply_async((fresh(),), ignore_result=False).get(timeout=WAIT)


@probe
def pickle_as_serializer() -> Any:
    return t.type_of.apply_async(((1, 2),), serializer="pickle").get(timeout=WAIT)


@probe
def yaml_as_serializer() -> Any:
    return t.type_of.apply_async(({"a": [1, None]},), serializer="yaml").get(timeout=WAIT)


@probe
def a_serializer_that_nobody_knows() -> Any:
    return raised(lambda: t.add.apply_async((1, 1), serializer="nobody"))


@probe
def compressed_with_zlib() -> Any:
    return t.add.apply_async(("x" * 2000, "y"), compression="zlib").get(timeout=WAIT) == "x" * 2000 + "y"


@probe
def compressed_with_bzip2() -> Any:
    return t.add.apply_async((1, 2), compression="bzip2").get(timeout=WAIT)


@probe
def time_limit_of_a_call() -> Any:
    result = t.busy.apply_async((20,), time_limit=1)
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def time_limit_of_the_decorator() -> Any:
    result = t.hard_by_decorator.delay()
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def soft_time_limit_that_is_caught() -> Any:
    return t.softly.apply_async((30,), soft_time_limit=6).get(timeout=WAIT)


@probe
def soft_time_limit_that_is_not_caught() -> Any:
    result = t.busy.apply_async((20,), soft_time_limit=1)
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def soft_time_limit_of_the_decorator() -> Any:
    return t.soft_by_decorator.delay().get(timeout=WAIT)


@probe
def time_limits_are_in_the_request() -> Any:
    return about(time_limit=33, soft_time_limit=22)["timelimit"]


@probe
def stamps_of_a_call() -> Any:
    told = t.about.s().stamp(who="me", why=["a", "b"]).apply_async().get(timeout=WAIT)
    return [told["stamps"], told["stamped_headers"]]


@probe
def too_few_arguments_are_refused() -> Any:
    return raised(lambda: t.mul.delay(1))


@probe
def unknown_arguments_are_refused() -> Any:
    return raised(lambda: t.mul.delay(1, 2, z=3))


@probe
def untyped_tasks_fail_in_the_worker() -> Any:
    result = t.untyped.delay(1, 2)
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def send_task_by_name() -> Any:
    return app.send_task("add", args=(2, 3)).get(timeout=WAIT)


@probe
def send_task_with_arguments_that_do_not_fit() -> Any:
    result = app.send_task("mul", args=(2,))
    return [raised(lambda: result.get(timeout=WAIT)), result.state]


@probe
def an_unknown_task_is_told_by_a_signal() -> Any:
    name = f"nobody.{fresh()}"
    result = app.send_task(name)
    return [eventually(lambda: notes(f"unknown:{name}")), result.state]


@probe
def a_signature_by_name() -> Any:
    return app.signature("add", args=(1,), kwargs={"y": 7}).delay().get(timeout=WAIT)


@probe
def a_connection_of_ones_own() -> Any:
    with app.connection_for_write() as connection:
        return t.add.apply_async((1, 5), connection=connection).get(timeout=WAIT)


@probe
def a_producer_of_ones_own() -> Any:
    with app.producer_or_acquire() as producer:
        return [t.add.apply_async((1, n), producer=producer).get(timeout=WAIT) for n in range(3)]


@probe
def a_broker_that_is_away_without_retry() -> Any:
    with Connection("redis://127.0.0.1:1/0") as away:
        found = raised(lambda: t.add.apply_async((1, 1), connection=away, retry=False))
    return type(found).__name__


@probe
def a_broker_that_is_away_with_a_retry_policy() -> Any:
    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.1}
    with Connection("redis://127.0.0.1:1/0") as away:
        found = raised(lambda: t.add.apply_async((1, 1), connection=away, retry=True, retry_policy=policy))
    return type(found).__name__


@probe
def an_annotation_of_the_configuration() -> Any:
    return [t.annotated.delay().get(timeout=WAIT), t.annotated.max_retries]


@probe
def a_task_with_a_rate_limit_runs() -> Any:
    return [t.limited.delay().get(timeout=WAIT) for _ in range(2)]


@probe
def arguments_that_json_does_not_have() -> Any:
    return raised(lambda: t.identity.delay(object()))


@probe
def args_that_are_not_a_sequence() -> Any:
    return raised(lambda: t.add.apply_async(5))


@probe
def a_negative_countdown() -> Any:
    return t.add.apply_async((1, 1), countdown=-5).get(timeout=WAIT)


@probe
def many_calls_at_once() -> Any:
    results = [t.add.delay(n, n) for n in range(50)]
    return sum(result.get(timeout=WAIT) for result in results)
