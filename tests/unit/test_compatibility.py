"""What the rules of `adopt` say of the apps of projects."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, Task
from kombu import Exchange, Queue
from kombu.common import Broadcast

from celeriac_tasks.compatibility.broker import store_url_of
from celeriac_tasks.compatibility.finding import Verdict, listed
from celeriac_tasks.compatibility.findings import findings, refusals

REDIS = "redis://127.0.0.1:6379/0"
AS_IT_IS, DIFFERENT, NOT_POSSIBLE = Verdict


def app_of(broker: Any = REDIS, **settings: Any) -> Celery:
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(settings)
    return app


def said(app: Celery, subject: str, *, redis_url: str | None = None) -> list[tuple[Verdict, str]]:
    return [(f.verdict, f.sentence) for f in findings(app, redis_url=redis_url) if f.subject == subject]


def verdicts(app: Celery, subject: str, *, redis_url: str | None = None) -> list[Verdict]:
    return [verdict for verdict, _ in said(app, subject, redis_url=redis_url)]


def test_a_usual_app_on_redis_runs_as_it_is() -> None:
    app = app_of(backend=REDIS, task_acks_late=True)
    assert refusals(app) == []
    assert verdicts(app, "broker") == [AS_IT_IS]


@pytest.mark.parametrize(
    ("broker", "redis_url", "verdict", "words"),
    [
        (None, None, DIFFERENT, "set broker_url or REDIS_URL"),
        (REDIS, None, AS_IT_IS, "holds the records too"),
        (REDIS, REDIS, AS_IT_IS, "holds the records too"),
        (REDIS, "redis://elsewhere/0", NOT_POSSIBLE, "leave out redis_url"),
        ("amqp://guest@localhost//", None, NOT_POSSIBLE, "set REDIS_URL"),
        ("amqp://guest@localhost//", REDIS, AS_IT_IS, f"the records are in {REDIS}"),
        ("sqs://key:secret@", None, NOT_POSSIBLE, "set REDIS_URL"),
        ("sqs://key:secret@", REDIS, DIFFERENT, "only Redis and RabbitMQ are tested"),
        ("memory://", REDIS, NOT_POSSIBLE, "set broker_url to a Redis"),
        ("sentinel://a:26379;sentinel://b:26379", None, NOT_POSSIBLE, "set broker_transport_options.master_name"),
    ],
)
def test_the_broker_decides_where_the_records_are(
    broker: str | None, redis_url: str | None, verdict: Verdict, words: str
) -> None:
    ((found, sentence),) = said(app_of(broker), "broker", redis_url=redis_url)
    assert found is verdict
    assert words in sentence


def test_a_sentence_hides_the_password_of_a_broker() -> None:
    app = app_of("redis://:swordfish@127.0.0.1/0")
    assert not any("swordfish" in finding.sentence for finding in findings(app))


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        (REDIS, REDIS),
        ("redis+socket:///run/redis.sock?virtual_host=3", "unix:///run/redis.sock?db=3"),
        ("rediss://host:6380/1?ssl_cert_reqs=CERT_REQUIRED", "rediss://host:6380/1?ssl_cert_reqs=required"),
        ("amqp://guest@localhost//", None),
    ],
)
def test_the_store_reads_the_address_of_the_broker_in_its_own_spelling(broker: str, expected: str | None) -> None:
    assert store_url_of(app_of(broker)) == expected


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"broker_transport_options": {"global_keyprefix": "shop:"}}, "broker_transport_options.global_keyprefix"),
        ({"broker_transport_options": {"priority_steps": [0, 5]}}, "broker_transport_options.priority_steps"),
        ({"broker_transport_options": {"sep": ":"}}, "broker_transport_options.sep"),
        ({"broker_read_url": REDIS, "broker_write_url": "redis://other/0"}, "broker_read_url"),
        ({"broker_url": [REDIS, "redis://other/0"]}, "broker_url"),
        ({"broker_transport": "shop.transport:Transport"}, "broker_transport"),
    ],
)
def test_a_setting_that_the_store_cannot_honour_is_refused_with_what_to_do(
    settings: dict[str, Any], subject: str
) -> None:
    found = refusals(app_of(**settings))
    assert [finding.subject for finding in found] == [subject]
    assert any(word in found[0].sentence for word in ("remove", "set broker_url"))


def test_the_defaults_of_the_layout_are_not_refused_when_they_are_written_down() -> None:
    options = {"priority_steps": (0, 3, 6, 9), "global_keyprefix": None, "sep": "\x06\x16"}
    assert refusals(app_of(broker_transport_options=options)) == []


@pytest.mark.parametrize(
    ("settings", "subject", "verdict"),
    [
        ({}, "task_acks_late", DIFFERENT),
        ({"task_acks_late": True}, "task_acks_late", AS_IT_IS),
        ({"task_acks_on_failure_or_timeout": False}, "task_acks_on_failure_or_timeout", DIFFERENT),
        ({"task_always_eager": True}, "task_always_eager", DIFFERENT),
        ({"task_protocol": 1}, "task_protocol", DIFFERENT),
        ({"worker_prefetch_multiplier": 8}, "worker_prefetch_multiplier", DIFFERENT),
        ({"worker_pool": "shop.pool:Pool"}, "worker_pool", DIFFERENT),
        ({"worker_pool": "threads"}, "worker_pool", AS_IT_IS),
        ({"worker_pool": "celeriac"}, "worker_pool", AS_IT_IS),
        ({"worker_pool": "gevent"}, "worker_pool", DIFFERENT),
        ({"worker_pool": "eventlet"}, "worker_pool", NOT_POSSIBLE),
        ({"result_backend": None}, "result_backend", DIFFERENT),
        ({"result_backend": "db+sqlite:///r.db"}, "result_backend", AS_IT_IS),
        ({"task_serializer": "pickle"}, "task_serializer", DIFFERENT),
        ({"task_serializer": "json"}, "task_serializer", AS_IT_IS),
        (
            {"broker_transport_options": {"visibility_timeout": 60}},
            "broker_transport_options.visibility_timeout",
            DIFFERENT,
        ),
        ({"beat_scheduler": "redbeat.RedBeatScheduler"}, "beat_scheduler", AS_IT_IS),
        ({"task_default_rate_limit": "10/m"}, "rate limits", AS_IT_IS),
        ({"task_time_limit": 60}, "time limits", AS_IT_IS),
    ],
)
def test_a_setting_has_its_verdict(settings: dict[str, Any], subject: str, verdict: Verdict) -> None:
    assert verdicts(app_of(**settings), subject) == [verdict]


def test_queues_are_groups_unless_they_are_broadcasts() -> None:
    queues = [Queue("media", Exchange("m", "topic")), Queue("a b"), Broadcast("all", unique=False)]
    app = app_of(task_queues=queues)
    assert verdicts(app, "task_queues") == [AS_IT_IS, DIFFERENT, DIFFERENT]
    sentences = [sentence for _, sentence in said(app, "task_queues")]
    assert sentences[0].endswith("media")
    assert sentences[1].endswith("rename a b")
    assert "once in each worker" in sentences[2]


class Audited(Task):  # type: ignore[misc]
    """A base class of the project's own."""

    abstract = True


class Mail(Audited):
    """A task that retries for ever."""

    name = "shop.mail"
    max_retries = None


class Batch(Task):  # type: ignore[misc]
    """A task that receives its messages in a way of its own."""

    name = "shop.batch"
    Strategy = "shop.batches:strategy"


def test_tasks_are_counted_and_those_without_a_record_are_named() -> None:
    app = app_of()
    app.register_task(Mail())
    app.register_task(Batch())
    assert [(v, "shop.batch" in sentence) for v, sentence in said(app, "tasks")] == [
        (DIFFERENT, True),
        (AS_IT_IS, False),
    ]
    assert "1 task runs" in said(app, "tasks")[1][1]
    assert said(app, "max_retries")[0][1].endswith("shop.mail")
    assert "Audited" in said(app, "base classes")[0][1]


def test_a_long_list_of_names_is_cut() -> None:
    assert listed("fedcbag", most=3) == "a, b, c and 4 more"
