"""What Celery's own schedules become as definitions."""

from __future__ import annotations

import base64
import pickle
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from kombu import Exchange, Queue
from kombu.common import Broadcast

from celeriac import json_text
from celeriac.model import rfc3339, utc_from_ms
from celeriac.schedules.definition import Spec, TaskTriggerType, timetable_of
from celeriac.settings import Settings
from celeriac_tasks.adoption.adopting import adopt, own_app
from celeriac_tasks.beat_schedule import _trigger_args, definitions_of


def next_days(given: Any, count: int) -> list[str]:
    args = _trigger_args(given, "UTC")
    spec = Spec(user_id=None, content="", trigger_args=args, anchor_ms=0, task=None, run={})
    table = timetable_of(TaskTriggerType.LOOP, spec, "")
    return [rfc3339(utc_from_ms(slot))[:16] for slot in islice(table.slots(1_767_225_600_000), count)]


@pytest.mark.parametrize("given", [90, 90.0, timedelta(seconds=90), schedule(90), schedule(timedelta(seconds=90))])
def test_an_interval_stays_an_interval(given: Any) -> None:
    assert _trigger_args(given, "UTC") == {"interval": 90}


def test_a_crontab_is_the_same_moments() -> None:
    assert _trigger_args(crontab(), "Europe/Berlin") == {"cron": "* * * * *", "timezone": "Europe/Berlin"}
    assert next_days(crontab(minute="*/20", hour="3"), 3) == [
        "2026-01-01T03:00",
        "2026-01-01T03:20",
        "2026-01-01T03:40",
    ]
    assert next_days(crontab(minute="0", hour="8", day_of_week="mon,fri"), 2) == [
        "2026-01-02T08:00",
        "2026-01-05T08:00",
    ]


def test_a_crontab_with_day_and_weekday_wants_both_as_celery_does() -> None:
    friday_the_13th = crontab(minute="0", hour="0", day_of_month="13", day_of_week="fri")
    assert next_days(friday_the_13th, 3) == ["2026-02-13T00:00", "2026-03-13T00:00", "2026-11-13T00:00"]


def test_what_is_neither_is_refused() -> None:
    for given in ("now and then", 0, True, None):
        with pytest.raises(ValueError, match="neither an interval nor a crontab"):
            _trigger_args(given, "UTC")


def test_an_entry_goes_to_the_queue_that_its_options_lead_to(caplog: pytest.LogCaptureFixture) -> None:
    app = own_app(lambda: Settings(redis_url="redis://127.0.0.1:1/0"))
    media = Exchange("media", "topic")
    app.conf.task_queues = [
        Queue("images", media, routing_key="media.image.#"),
        Queue("films", media, routing_key="media.film.*"),
        Queue("rushes", media, routing_key="media.film.rush"),
        Broadcast("everybody"),
    ]
    options: dict[str, dict[str, Any]] = {
        "named": {"queue": "films"},
        "by key": {"exchange": "media", "routing_key": "media.image.png"},
        "to two": {"exchange": "media", "routing_key": "media.film.rush"},
        "to none": {"exchange": "media", "routing_key": "sound"},
        "to all": {"queue": "everybody"},
    }
    entries = {name: {"task": "any.task", "schedule": 60, "options": given} for name, given in options.items()}
    found = definitions_of(app, entries, 0)
    assert {definition.name: definition.group for definition in found} == {"named": "films", "by key": "images"}
    assert [line.getMessage().partition("will not fire: ")[2] for line in caplog.records] == [
        "the exchange 'media' leads to 2 queues, and it must be one: set `queue`",
        "the exchange 'media' leads to 0 queues, and it must be one: set `queue`",
        "the queue 'everybody' is a broadcast, which has no record: call it from a task",
    ]


def test_an_entry_is_written_in_the_serializer_of_the_app() -> None:
    app = adopt(Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False))
    app.conf.update(task_serializer="pickle", accept_content=["pickle"])
    (definition,) = definitions_of(app, {"any": {"task": "any.task", "schedule": 60, "args": [1]}}, 0)
    message = json_text.read(definition.spec.run["celery_message"])
    assert message["content-type"] == "application/x-python-serialize"
    assert pickle.loads(base64.b64decode(message["body"]))[0] == [1]
    assert definition.spec.run["payload"] == '{"args":[1],"kwargs":{}}'
