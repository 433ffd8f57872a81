"""The Celery app: turns settings into Celery's configuration and registered types into Celery tasks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from celery import Celery
from celery.canvas import Signature
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool

import celeriac.tasks.types.demo  # noqa: F401 - registers itself
from celeriac.errors import SettingsError, StoreUnavailableError
from celeriac.model import Submission, Submitted
from celeriac.settings import Settings, WorkerSettings
from celeriac.store.server.channel import StoreChannel
from celeriac.tasks.registry import TaskType, load
from celeriac.tasks.registry import registry as types_of_this_process
from celeriac.tasks.submission import delivery_of, submission_of_call
from celeriac_tasks import bulk
from celeriac_tasks.celeryconfig_file import celeryconfig_settings
from celeriac_tasks.engine import ending, messages, signals
from celeriac_tasks.engine.base import CeleriacTask, RegisteredTask, recorded
from celeriac_tasks.engine.consumer_steps import BatchEvents, FollowGroups
from celeriac_tasks.engine.publishing import CollectedCalls, PublishedCalls
from celeriac_tasks.engine.results import RecordBackend
from celeriac_tasks.engine.transport import NAME as TRANSPORT
from celeriac_tasks.engine.transport import Submit
from celeriac_tasks.files import handler as file_process
from celeriac_tasks.grpc_task import install


class CeleriacApp(Celery):
    """A Celery app whose tasks have records. Call `load_types` to complete it."""

    amqp_cls = "celeriac_tasks.engine.connection:StoreAMQP"

    def __init__(self, settings: Settings) -> None:
        if settings.redis_url is None:
            raise SettingsError("redis_url is not set: set REDIS_URL, or start `celeriac up` and use its --data-dir")
        super().__init__("celeriac", task_cls=CeleriacTask)
        self.celeriac_settings = settings
        self.celeriac_registry = types_of_this_process
        self._types_loaded = False
        self.conf.update({**celery_settings(settings), **celeryconfig_settings()})
        if not settings.other_broker:
            self.conf.broker_transport_options = {
                **self.conf.broker_transport_options,
                "submit": PublishedCalls(self),
            }
        self.steps["consumer"].update({FollowGroups, BatchEvents})
        # Celery holds signal receivers weakly, so the app keeps them alive.
        self._celeriac_signals = signals, ending

    def load_types(self) -> None:
        """Import the task types of the settings and make each one a Celery task. Idempotent."""
        if self._types_loaded:
            return
        self._types_loaded = True
        settings = self.celeriac_settings
        load(settings.imports)
        # Installed even if no service is configured: its tasks then fail with the reason instead of waiting for ever.
        install(settings, self.celeriac_registry)
        bulk.install(settings, self.celeriac_registry)
        file_process.install(settings, self.celeriac_registry)
        for task_type in self.celeriac_registry:
            if task_type.handler is not None:
                task_class = type("registered", (RegisteredTask,), {"name": task_type.name, "abstract": False})
                self.register_task(task_class())

    def record(self, call: messages.PublishedCall, *, queue: str, within_limits: bool = True) -> Submitted:
        """Submit a published call of one of our tasks.

        Raises kombu's `OperationalError` if the store is unavailable, as Celery does for a broker, and
        `QueueFullError` if the group's queue is full.
        """
        submission = self.submission_of(call, group=queue)
        try:
            return self.records.submit(submission, within_limits=within_limits)
        except StoreUnavailableError as exc:
            raise OperationalError(str(exc)) from exc

    def submission_of(self, call: messages.PublishedCall, *, group: str) -> Submission:
        """Return the submission for a published call of one of our tasks.

        Raises `InvalidSubmissionError` if the arguments do not fit the registered type.
        """
        name, settings = call.headers["task"], self.celeriac_settings
        task_type, task = self.registered_type(name), self.tasks.get(name)
        published = messages.celery_call(
            call,
            group=group,
            delivery=delivery_of(group, settings),
            max_retries=getattr(task, "max_retries", 3),
            time_limit_s=getattr(task, "time_limit", None),
            registered=task_type is not None,
        )
        return submission_of_call(published, settings, task_type)

    def registered_type(self, name: str) -> TaskType | None:
        """Return the task type with this name if this process can run it, or None for a plain Celery task."""
        task_type = self.celeriac_registry.get(name)
        return task_type if task_type is not None and task_type.handler is not None else None

    def send_task(self, name: str, *args: Any, producer: Any = None, **options: Any) -> Any:
        """Publish a task as Celery does.

        If the broker is not the store, the record is written first and the outbox sends the message afterwards
        (see `outbox.py`), so no task exists only as a message.
        """
        ours = isinstance(self.tasks.get(name), CeleriacTask)
        if producer is not None or not ours or not self.celeriac_settings.other_broker:
            result = super().send_task(name, *args, producer=producer, **options)
        else:
            with self._recording_producers.acquire(block=True) as recording:
                result = super().send_task(name, *args, producer=recording, **options)
        if ours and isinstance(self.backend, RecordBackend):
            # With `ignore_result` workers store nothing beside the record, which the caller can still read.
            result.ignored = False
        return result

    @cached_property
    def records(self) -> StoreChannel:
        """The store, for Celery's threads and for the threads of programs that publish tasks."""
        return StoreChannel(str(self.celeriac_settings.redis_url), self.celeriac_settings.store)

    def described(self, call: Signature) -> Submission:
        """Return the submission that publishing `call` would make, and publish nothing.

        Celery itself builds the message, so routes, serializers, stamps, headers and signals count as in a call.
        """
        collected, producers = self._collecting
        with producers.acquire(block=True) as producer:
            call.apply_async(producer=producer)
        queue, published = collected.take(call.options["task_id"])
        return self.submission_of(published, group=queue)

    @cached_property
    def _recording_producers(self) -> ProducerPool:
        """Producers whose channels submit each published task."""
        return self._producers_on_store(PublishedCalls(self))

    @cached_property
    def _collecting(self) -> tuple[CollectedCalls, ProducerPool]:
        collected = CollectedCalls()
        return collected, self._producers_on_store(collected)

    def _producers_on_store(self, submit: Submit) -> ProducerPool:
        store = Connection(self.celeriac_settings.redis_url, transport=TRANSPORT, transport_options={"submit": submit})
        limit = self.conf.broker_pool_limit or 1
        return ProducerPool(store.Pool(limit), limit=limit)

    # --- the classes of tasks

    def _task_from_fun(self, fun: Any, name: Any = None, base: Any = None, *args: Any, **options: Any) -> Any:
        """Make a task of a function (`@app.task`, `@shared_task`), whatever its base class, with a record."""
        return super()._task_from_fun(fun, name, recorded(base or self.Task), *args, **options)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a class-based task, whatever its base class, with a record."""
        task = task() if isinstance(task, type) else task
        task.__class__ = recorded(type(task))
        return super().register_task(task, **options)


def create_app(settings: Settings) -> CeleriacApp:
    """Return a complete app for these settings; `celeryconfig.py` in the current folder overrides them."""
    app = CeleriacApp(settings)
    app.load_types()
    return app


_process_app: CeleriacApp | None = None
_process_app_lock = threading.Lock()


def process_app(settings: Callable[[], Settings]) -> CeleriacApp:
    """Return the only app of this process; the first call creates it from `settings`. Its types may not be loaded yet.

    The app must exist before its types are loaded, because modules of plain Celery tasks register with it.
    """
    global _process_app
    with _process_app_lock:
        if _process_app is None:
            _process_app = CeleriacApp(settings())
        return _process_app


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration that the platform needs; each line is a deliberate decision."""
    on_redis = not settings.other_broker
    return {
        "broker_url": settings.broker_url or settings.redis_url,
        # Writes the record and the message in one step, with one client per channel.
        **({"broker_transport": TRANSPORT} if on_redis else {}),
        "broker_transport_options": (
            # The record, its lease and the sweep replace kombu's acknowledgement emulation: they give
            # more at half the cost (docs/decisions/0002).
            {
                "ack_emulation": False,
                "socket_keepalive": True,
                # A connection that has gone silent is noticed within 10 s: an answer is late after this time and the
                # one second of a BRPOP, and this often somebody looks.
                "health_check_interval": 4,
                # A silent server must not block a worker for ever; this is longer than an answer takes.
                "socket_timeout": 5,
                "socket_connect_timeout": 3,
            }
            if on_redis
            # A message that the broker has not confirmed goes back to the outbox.
            else {"confirm_publish": True}
        ),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Lives as long as the record.
        "result_expires": settings.retention,
        "result_backend": "celeriac_tasks.engine.results:RecordBackend",
        # The queue has the group's name and uses the default exchange, so there are no bindings to lose.
        "task_default_queue": "default",
        "task_default_exchange": "",
        "task_default_routing_key": "default",
        "task_create_missing_queues": True,
        # The default priority is served last; on Redis that is 9.
        "task_default_priority": 9 if on_redis else 0,
        "task_acks_late": True,
        **_pool_settings(settings.worker, prefork=_asks_for_prefork(sys.argv)),
        # Definitions are in SQL, and so are the entries of beat_schedule.
        "beat_scheduler": "celeriac_tasks.beat:BeatScheduler",
        # A message leaves its queue only when a slot is free.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": on_redis,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": settings.worker.send_events,
        # With another broker these events would go to the store's connection, where no monitor listens.
        "task_send_sent_event": settings.worker.send_events and on_redis,
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
    }


def _pool_settings(worker: WorkerSettings, *, prefork: bool) -> dict[str, Any]:
    if not prefork:
        return {"worker_pool": "celeriac_tasks.engine.pool:TaskPool", "worker_concurrency": worker.concurrency}
    # The default is meant for one event loop. Celery's own is one process per processor.
    return {"worker_concurrency": worker.concurrency} if "concurrency" in worker.model_fields_set else {}


def _asks_for_prefork(arguments: Sequence[str]) -> bool:
    """Whether this is `celery worker -P prefork`: Celery treats that as its default, which a setting overrides."""
    joined = " ".join(arguments)
    return any(f" {option}prefork" in joined for option in ("-P ", "-P", "--pool ", "--pool="))
