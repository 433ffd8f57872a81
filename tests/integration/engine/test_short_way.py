"""A plain call goes a short way to its record. It makes the very record that it makes on the long way."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import kombu
import pytest
from celery import Celery, signals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.model import Status, Submission, Submitted
from celeriac.settings import Settings
from celeriac_tasks.adoption.adopting import own_app
from celeriac_tasks.engine.app import CeleriacApp
from celeriac_tasks.engine.calls import messages, short_way

TASK_ID: Final = "8f1f1d2c-7f0a-4b0f-9d3b-0c4b1d6f2a10"
MOMENT: Final = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)


class Calls:
    """An app, what its calls submit, and how many of them went the short way."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app: CeleriacApp = own_app(lambda: Settings(redis_url=url))
        # Other tests of this process may have imported projects that listen.
        for signal in (signals.before_task_publish, signals.after_task_publish, signals.task_sent):
            monkeypatch.setattr(signal, "receivers", [])
            signal.sender_receivers_cache.clear()
        assert self.app.conf.task_send_sent_event, "as the platform configures its own app"
        self.app.conf.task_send_sent_event = False
        self.submitted: list[tuple[Submission, dict[str, Any]]] = []
        self.short = 0
        monkeypatch.setattr(self.app.records, "submit", self._submit)
        monkeypatch.setattr(type(self.app), "now", lambda _: MOMENT)
        monkeypatch.setattr(messages, "uuid4", lambda: uuid.UUID(int=7))
        monkeypatch.setattr(short_way, "submitted", self._counted(short_way.submitted))

    def _submit(self, submission: Submission, **how: Any) -> Submitted:
        self.submitted.append((submission, how))
        return Submitted(submission.task_id, Status.PENDING, created=True)

    def _counted(self, submitted: Callable[..., bool]) -> Callable[..., bool]:
        def counted(*given: Any) -> bool:
            self.short += 1
            return submitted(*given)

        return counted

    def outcome(self, task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Publish a call; return all that comes of it."""
        self.submitted.clear()
        try:
            result = task.apply_async(args, kwargs, **{"task_id": TASK_ID, **options})
        except Exception as exc:
            return type(exc), str(exc)
        return list(self.submitted), type(result), result.id, result.ignored, result.parent

    def both(self, task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> tuple[Any, Any, bool]:
        """Publish a call both ways; return both outcomes, and whether the first one went the short way."""
        way = self.app.short_way
        with _always_long(self.app):
            long = self.outcome(task, args, kwargs, dict(options))
        before = self.short
        short = self.outcome(task, args, kwargs, dict(options))
        assert self.app.short_way is way
        return long, short, self.short > before


@contextmanager
def _always_long(app: CeleriacApp) -> Iterator[None]:
    app.short_way.publish = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del app.short_way.publish  # type: ignore[misc]


@pytest.fixture
def calls(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """An app on the test's store."""
    return Calls(valkey_url, monkeypatch)


def _task(app: Celery, **options: Any) -> Any:
    def body(*args: Any, **kwargs: Any) -> None:
        """Is never called."""

    return app.task(name="called", shared=False, **options)(body)


ARGUMENTS: Final = (
    ((), {}),
    (None, None),
    ([1, 2.5, None, True], {"a": "b"}),
    (({"deep": [{"er": ("x", "y")}]},), {"ключ": "значение 🙂", "nul": "\x00"}),
    ((10**30, -0.0, 1e400, float("nan")), {}),
    ((date(2031, 1, 2), MOMENT, Decimal("1.50"), uuid.UUID(int=5), b"\xff"), {}),
    (("\ud800",), {"x" * 2000: "y" * 5000}),
    ((object(),), {}),
    (({1, 2},), {}),
    ("text", {}),
    ({}, {}),
)
#: Options of calls, and whether they go the short way.
OPTIONS: Final[tuple[tuple[dict[str, Any], bool], ...]] = (
    ({}, True),
    ({"priority": 0}, True),
    ({"priority": 3}, True),
    ({"queue": "other"}, True),
    ({"queue": kombu.Queue("made")}, True),
    ({"shadow": "another name"}, True),
    ({"time_limit": 9}, True),
    ({"time_limit": 9.5, "soft_time_limit": 4}, True),
    ({"ignore_result": True}, True),
    ({"ignore_result": False, "priority": 9, "queue": "other", "shadow": "s"}, True),
    ({"serializer": "json"}, True),
    ({"serializer": "pickle"}, False),
    ({"compression": "zlib"}, False),
    ({"countdown": 5}, False),
    ({"eta": MOMENT}, False),
    ({"expires": 60}, False),
    ({"expires": MOMENT}, False),
    ({"headers": {"x": 1}}, False),
    ({"reply_to": "somewhere"}, False),
    ({"group_id": "g", "group_index": 2}, False),
    ({"root_id": "r", "parent_id": "p"}, False),
    ({"argsrepr": "(hidden)"}, False),
    ({"retries": 2}, False),
    ({"correlation_id": "c"}, False),
    ({"routing_key": "other", "exchange": ""}, False),
    ({"queue": kombu.Queue("topical", kombu.Exchange("news", "topic"), routing_key="x")}, False),
    ({"add_to_parent": False}, False),
    ({"retry": False}, False),
    ({"stamped_headers": ["x"], "x": "1"}, False),
    ({"queue": ""}, True),
    ({"unknown": "option"}, False),
)


@pytest.mark.parametrize(("options", "goes_short"), OPTIONS, ids=range(len(OPTIONS)))
def test_with_each_option_both_ways_submit_the_same(calls: Calls, options: dict[str, Any], goes_short: bool) -> None:
    task = _task(calls.app)
    for number, (args, kwargs) in enumerate(ARGUMENTS):
        long, short, went_short = calls.both(task, args, kwargs, options)
        assert repr(short) == repr(long)
        if number < 4:
            assert went_short is goes_short


OF_TASKS: Final[tuple[tuple[dict[str, Any], bool], ...]] = (
    ({"queue": "own", "priority": 2}, True),
    ({"time_limit": 5, "soft_time_limit": 3}, True),
    ({"ignore_result": True, "max_retries": None}, True),
    ({"typing": False}, True),
    ({"key": "a"}, True),
    ({"expires": 30}, False),
    ({"serializer": "yaml"}, False),
    ({"compression": "gzip"}, False),
    ({"routing_key": "a.b"}, False),
    ({"delivery_mode": 1}, False),
)


@pytest.mark.filterwarnings("ignore:.*task attribute is deprecated")
@pytest.mark.parametrize(("options", "goes_short"), OF_TASKS, ids=range(len(OF_TASKS)))
def test_with_each_option_of_a_task_both_ways_submit_the_same(
    calls: Calls, options: dict[str, Any], goes_short: bool
) -> None:
    task = _task(calls.app, **options)
    for more in ({}, {"priority": 7}, {"queue": "other"}):
        long, short, went_short = calls.both(task, (1,), {"a": 2}, more)
        assert repr(short) == repr(long)
        assert went_short is goes_short


CONFIGURED: Final[tuple[tuple[dict[str, Any], bool], ...]] = (
    ({"task_routes": {"called": {"queue": "routed", "priority": 4}}}, True),
    ({"task_routes": {"call*": "routed"}}, True),
    ({"task_routes": {"called": {"queue": "routed", "expires": 5}}}, False),
    ({"task_routes": [lambda name, *_, **__: {"queue": "routed"}]}, False),
    ({"task_default_queue": "standard"}, True),
    ({"task_default_priority": 6}, True),
    ({"task_default_delivery_mode": "transient"}, True),
    ({"task_compression": "zlib"}, False),
    ({"task_serializer": "pickle", "accept_content": ["json", "pickle"]}, False),
    ({"task_send_sent_event": True}, False),
    ({"task_protocol": 1}, False),
    ({"task_repr_maxlevels": 1}, True),
)


@pytest.mark.parametrize(("changes", "goes_short"), CONFIGURED, ids=range(len(CONFIGURED)))
def test_with_each_setting_both_ways_submit_the_same(calls: Calls, changes: dict[str, Any], goes_short: bool) -> None:
    calls.app.conf.update(changes)
    task = _task(calls.app)
    for more in ({}, {"priority": 7}, {"queue": "other"}):
        long, short, went_short = calls.both(task, (1, {"a": [[[["deep"]]]]}), {}, more)
        assert repr(short) == repr(long)
        assert went_short is goes_short


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.lists(JSON, max_size=3), kwargs=st.dictionaries(st.text(), JSON, max_size=3))
def test_with_any_arguments_both_ways_submit_the_same(calls: Calls, args: list[Any], kwargs: dict[str, Any]) -> None:
    task = calls.app.tasks.get("called") or _task(calls.app)
    long, short, went_short = calls.both(task, args, kwargs, {})
    assert repr(short) == repr(long)
    assert went_short


def test_who_hears_of_publications_hears_of_each(calls: Calls) -> None:
    task = _task(calls.app)
    task.delay(1)
    heard: list[Any] = []

    def hear(**told: Any) -> None:
        heard.append(told["headers"]["id"])

    signals.before_task_publish.connect(hear)
    try:
        found = [task.delay(2).id, task.delay(3).id]
    finally:
        signals.before_task_publish.disconnect(hear)
    assert heard == found
    assert calls.short == 0


def test_what_is_put_around_the_producer_sees_each_publication(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task(calls.app)
    task.delay(1)
    seen: list[Any] = []
    publish = kombu.Producer.publish

    def watched(producer: Any, *args: Any, **options: Any) -> Any:
        seen.append(options["headers"]["id"])
        return publish(producer, *args, **options)

    monkeypatch.setattr(kombu.Producer, "publish", watched)
    assert seen == [] != [result := task.delay(2)]
    assert seen == [result.id]


def test_the_first_call_of_each_queue_declares_it(calls: Calls) -> None:
    task = _task(calls.app)
    for queue, short in (("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 3)):
        task.apply_async((1,), queue=queue)
        assert calls.short == short


def test_a_call_with_a_given_producer_or_connection_uses_it(calls: Calls) -> None:
    task = _task(calls.app)
    task.delay(1)
    with calls.app.connection_for_write() as connection:
        task.apply_async((2,), connection=connection)
        with kombu.Producer(connection) as producer:
            task.apply_async((3,), producer=producer)
    assert calls.short == 0
    assert len(calls.submitted) == 3


def test_a_time_from_now_counts_from_the_store_s_now_on_either_way(calls: Calls) -> None:
    task = _task(calls.app)
    task.delay(1)
    task.apply_async((1,), countdown=timedelta(seconds=5).total_seconds())
    assert calls.submitted[-1][0].delay_ms == 5000


def test_the_first_call_of_a_process_leaves_an_app_alone_that_has_not_been_configured(valkey_url: str) -> None:
    """Threads that read the configuration at the same time would see half of it, and no result backend in it."""
    app = own_app(lambda: Settings(redis_url=valkey_url))
    assert not app.configured
    assert app.short_way.publish("called", (), {}, {"task_type": object()}) is None
    assert not app.configured
