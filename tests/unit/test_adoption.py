"""What `adopt` changes of a Celery app, and what it leaves as the project has set it. No server runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task
from celery.app.amqp import AMQP

from celeriac import adopt
from celeriac.errors import SettingsError
from celeriac_tasks.compatibility.findings import findings
from celeriac_tasks.engine.app import CeleriacApp
from celeriac_tasks.engine.attempts.base import CeleriacTask
from celeriac_tasks.engine.brokers.transport import NAME as TRANSPORT

REDIS = "redis://127.0.0.1:1/0"
RABBIT = "amqp://guest:guest@127.0.0.1:1//"

#: What a Django project may have in its settings, each value another one than Celery's default and the platform's.
DJANGO = {
    "CELERY_BROKER_URL": REDIS,
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/5",
    "CELERY_TIMEZONE": "Europe/Berlin",
    "CELERY_ENABLE_UTC": False,
    "CELERY_TASK_DEFAULT_QUEUE": "shop",
    "CELERY_TASK_DEFAULT_PRIORITY": 4,
    "CELERY_TASK_SERIALIZER": "pickle",
    "CELERY_ACCEPT_CONTENT": ["pickle", "json"],
    "CELERY_TASK_ACKS_LATE": False,
    "CELERY_WORKER_CONCURRENCY": 7,
    "CELERY_WORKER_POOL": "threads",
    "CELERY_WORKER_PREFETCH_MULTIPLIER": 3,
    "CELERY_WORKER_HIJACK_ROOT_LOGGER": True,
    "CELERY_WORKER_SEND_TASK_EVENTS": False,
    "CELERY_BEAT_SCHEDULER": "django_celery_beat.schedulers:DatabaseScheduler",
    "CELERY_RESULT_EXPIRES": 77,
    "CELERY_TASK_IGNORE_RESULT": True,
    "CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 99, "socket_timeout": 11},
}


class Marked(Task):
    """A base class of the project's own."""

    abstract = True


def project(**conf: Any) -> Celery:
    """Return an app that nobody else uses."""
    app = Celery("project", set_as_current=False)
    app.conf.update({"broker_url": REDIS, "result_backend": REDIS, **conf})
    return app


def test_adopting_changes_these_settings_of_a_project_and_no_others() -> None:
    def configured() -> Celery:
        app = Celery("project", set_as_current=False)
        app.config_from_object(SimpleNamespace(**DJANGO), namespace="CELERY")
        return app

    stock, adopted = configured(), adopt(configured())
    before, after = dict(stock.conf.table(with_defaults=True)), dict(adopted.conf.table(with_defaults=True))
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"broker_transport", "broker_transport_options", "worker_disable_prefetch"}
    assert adopted.conf.broker_transport == TRANSPORT
    options = adopted.conf.broker_transport_options
    assert (options["visibility_timeout"], options["socket_timeout"], options["ack_emulation"]) == (99, 11, False)


def test_on_another_broker_adopting_only_asks_for_confirmations() -> None:
    app = adopt(project(broker_url=RABBIT, broker_transport_options={"max_retries": 2}), redis_url=REDIS)
    assert app.conf.broker_url == RABBIT
    assert app.conf.broker_transport_options == {"max_retries": 2, "confirm_publish": True}
    assert isinstance(app, CeleriacApp)
    assert app.celeriac_settings.redis_url == REDIS
    assert app.celeriac_settings.other_broker


def test_results_are_in_the_records_only_where_the_project_has_no_backend() -> None:
    assert adopt(project()).conf.result_backend == REDIS
    without = Celery("project", broker=REDIS, set_as_current=False)
    assert adopt(without).conf.result_backend.endswith("RecordBackend")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("used", ["not used", "configured", "finalized"])
def test_tasks_have_records_whenever_the_app_is_adopted(when: str, used: str) -> None:
    app = project()
    if when == "before":
        adopt(app)

    @app.task(shared=False)
    def plain() -> int:
        return 1

    @app.task(base=Marked, bind=True, shared=False)
    def based(self: Task) -> int:
        return 2

    class Own(app.Task):
        name = "own"

        def run(self) -> int:
            return 3

    own = app.register_task(Own())
    if used == "configured":
        assert app.conf.broker_url == REDIS
    if used == "finalized":
        app.finalize()
    if when == "after":
        adopt(app)
    tasks = [app.tasks[task.name] for task in (plain, based, own)]
    assert all(isinstance(task, CeleriacTask) for task in tasks)
    assert isinstance(tasks[1], Marked)
    assert [task() for task in tasks] == [1, 2, 3]
    assert [task.apply().get() for task in tasks] == [1, 2, 3]


def test_adopting_twice_is_adopting_once() -> None:
    app = project()
    assert adopt(app) is app
    adopted_class = type(app)
    assert adopt(app) is app
    assert type(app) is adopted_class


def test_an_app_keeps_its_own_class_and_factory_of_messages() -> None:
    class OwnMessages(AMQP):
        pass

    class OwnApp(Celery):
        amqp_cls = OwnMessages

        def greeting(self) -> str:
            return "hello"

    app = adopt(OwnApp("project", broker=REDIS, set_as_current=False))
    assert app.greeting() == "hello"
    assert isinstance(app, OwnApp)
    assert isinstance(app.amqp, OwnMessages)


def test_the_report_names_a_class_of_the_projects_own_and_no_other() -> None:
    class ShopApp(Celery):
        pass

    def named(app: Celery) -> list[str]:
        return [finding.sentence for finding in findings(app) if finding.subject == "app"]

    assert named(project()) == named(adopt(project())) == []
    own = adopt(ShopApp("project", broker=REDIS, set_as_current=False))
    assert len(named(own)) == 1
    assert "ShopApp stays" in named(own)[0]


def test_an_adopted_app_is_adopted_again_in_another_process() -> None:
    app = pickle.loads(pickle.dumps(adopt(project(broker_url=RABBIT), redis_url=REDIS)))
    assert isinstance(app, CeleriacApp)
    assert (app.conf.broker_url, app.celeriac_settings.redis_url) == (RABBIT, REDIS)


@pytest.mark.parametrize(
    ("conf", "redis_url", "sentence"),
    [
        ({"broker_url": RABBIT}, None, "set REDIS_URL, or write adopt(app, redis_url='redis://localhost:6379/0')"),
        ({}, "redis://127.0.0.1:2/0", "leave out redis_url"),
        ({"broker_url": "sentinel://127.0.0.1:1"}, None, "set broker_transport_options.master_name"),
        ({"broker_url": "redis://127.0.0.1:1;redis://127.0.0.1:2"}, None, "set broker_url to one of them"),
        ({"broker_read_url": REDIS, "broker_write_url": "redis://127.0.0.1:2/0"}, None, "set broker_url alone"),
        ({"broker_transport_options": {"global_keyprefix": "shop:"}}, None, "remove global_keyprefix"),
        ({"broker_transport_options": {"priority_steps": [0, 5]}}, None, "remove priority_steps"),
        ({"broker_transport_options": {"sep": ":"}}, None, "remove sep"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_in_words_at_the_first_call_and_not_before(
    conf: dict[str, Any], redis_url: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)
    app = adopt(project(**conf), redis_url=redis_url)

    @app.task(shared=False)
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    for use in (lambda: add.delay(1, 2), lambda: app.Worker):
        with pytest.raises(SettingsError) as refused:
            use()
        assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("broker", "ssl", "store"),
    [
        ("redis://user:word@host:6380/3", None, "redis://user:word@host:6380/3"),
        ("redis+socket:///run/redis.sock?virtual_host=2", None, "unix:///run/redis.sock?db=2"),
        ("redis+socket:///run/redis.sock", None, "unix:///run/redis.sock"),
        ("rediss://host/0?ssl_cert_reqs=required", None, "rediss://host/0?ssl_cert_reqs=required"),
        ("redis://host/0", True, "rediss://host/0"),
        ("redis://host/0", {"ssl_cert_reqs": 2, "ssl_ca_certs": "/a b"},
         "rediss://host/0?ssl_cert_reqs=required&ssl_ca_certs=/a+b"),
    ],
)  # fmt: skip
def test_the_store_is_where_the_broker_is(broker: str, ssl: Any, store: str) -> None:
    app = adopt(project(broker_url=broker, **({} if ssl is None else {"broker_use_ssl": ssl})))
    assert isinstance(app, CeleriacApp)
    assert app.celeriac_settings.redis_url == store
    assert not app.celeriac_settings.other_broker


def test_importing_and_calling_tasks_needs_nothing_that_runs(tmp_path: Path) -> None:
    program = """
from celery import Celery
from celeriac import adopt
from celeriac_tasks.celery import app as own
for app in (own, adopt(Celery("project"))):
    @app.task(name="add", shared=False)
    def add(a, b):
        return a + b
    assert (add(1, 2), add.apply((1, 2)).get(), add.s(1, 2).task) == (3, 3, "add")
    for use in (lambda: add.delay(1, 2), lambda: app.AsyncResult("x").get(timeout=1)):
        try:
            use()
        except Exception as exc:
            print(type(exc).__name__, exc)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=True
    )
    lines = found.stdout.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("NoInstallationError no `celeriac up` runs on .celeriac: start one") for line in lines)
