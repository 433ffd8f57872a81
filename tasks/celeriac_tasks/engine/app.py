"""A Celery app whose tasks have records. `celeriac_tasks.adoption` makes one of any Celery app."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from celery import Celery
from celery.app.amqp import AMQP
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from kombu.utils.imports import symbol_by_name

from celeriac.errors import SettingsError, StoreUnavailableError
from celeriac.model import Submission, Submitted
from celeriac.settings import Settings
from celeriac.store.server.channel import StoreChannel
from celeriac.store.server.scripts import every_function
from celeriac.tasks.registry import Registry
from celeriac.tasks.submission import delivery_of, submission_of_call
from celeriac.tasks.task_type import TaskType
from celeriac.terminal.task_lines import TaskLines
from celeriac_tasks.compatibility.sentinels import as_celery_url
from celeriac_tasks.engine import ending, signals  # noqa: F401
from celeriac_tasks.engine.attempts.base import ATTEMPT, CeleriacTask, RegisteredTask, recorded
from celeriac_tasks.engine.brokers.connection import WHEN, StoreAMQP
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.calls.call_keys import KEY
from celeriac_tasks.engine.calls.nodes import placed
from celeriac_tasks.engine.calls.publications import publisher_of
from celeriac_tasks.engine.calls.published_call import PublishedCall
from celeriac_tasks.engine.calls.publishing import CollectingProducer
from celeriac_tasks.engine.calls.short_way import ShortWay
from celeriac_tasks.engine.operators import consumers, inspecting, limiting, revoking  # noqa: F401
from celeriac_tasks.engine.ownership import OwnedGroups
from celeriac_tasks.engine.pools import refused_pools  # noqa: F401
from celeriac_tasks.engine.results import RecordBackend, StorelessBackend


class SettingsSource(ABC):
    """Where the settings of an app come from: a project, or the platform's own files."""

    #: Whether a worker serves all groups unless it is told otherwise; if not, it serves its queues as in Celery.
    follows: bool
    #: Whether `revoke` stops a running task without `terminate` too; stock Celery lets it go on.
    stops_revoked: bool

    @abstractmethod
    def find(self, app: CeleriacApp) -> Settings:
        """Return the settings with the store's address; raises `SettingsError`."""

    @abstractmethod
    def without_store(self, app: CeleriacApp) -> Settings:
        """Return the settings as far as they are known without the store's address."""

    @abstractmethod
    def configure(self, app: CeleriacApp, conf: Any) -> None:
        """Complete Celery's configuration, which has just been read."""

    @abstractmethod
    def load_types(self, app: CeleriacApp) -> None:
        """Import the modules of task types."""

    def module_name(self, name: str) -> str:
        """Return the module after which tasks are named that are declared in the module `name`."""
        return name


class CeleriacApp(Celery):
    """What the class of an adopted app adds to its own class."""

    celeriac_source: SettingsSource
    celeriac_registry: Registry
    #: Shows the ends of tasks on the terminal; None: Celery's own lines say it.
    celeriac_lines: TaskLines | None = None
    _types_loaded = False

    if TYPE_CHECKING:
        # Celery is not typed, and `mypy --strict` refuses decorators that are not.
        @overload
        def task(self, fun: Callable[..., Any], /) -> Any: ...
        @overload
        def task(self, **options: Any) -> Callable[[Callable[..., Any]], Any]: ...
        def task(self, *args: Any, **options: Any) -> Any: ...

    # --- settings

    @cached_property
    def celeriac_settings(self) -> Settings:
        """The platform's settings, with the store's address; raises `SettingsError` until a store is found."""
        return self.celeriac_source.find(self)

    @property
    def settings_so_far(self) -> Settings:
        """The same, without an address as long as no store is found: importing and calling tasks needs none."""
        try:
            return self.celeriac_settings
        except SettingsError:
            return self.celeriac_source.without_store(self)

    def _load_config(self) -> Any:
        conf = super()._load_config()
        self.celeriac_source.configure(self, conf)
        return conf

    def _connection(self, url: Any, *args: Any, **options: Any) -> Any:
        if not url and not self.conf.broker_url:
            # The configuration was read before a store was found.
            _ = self.celeriac_settings
            self.celeriac_source.configure(self, self.conf)
        return super()._connection(as_celery_url(url or self.conf.broker_url), *args, **options)

    @property
    def backend(self) -> Any:
        """The result backend; one that only says what is missing, as long as no store is found."""
        try:
            return Celery.backend.fget(self)
        except SettingsError as exc:
            return StorelessBackend(self, exc)

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        """The class of the app's workers; raises `SettingsError` if there is no store for its records."""
        _ = self.celeriac_settings
        # Read once, instead of in each process that a pool forks.
        every_function()
        return self.subclass_with_self("celery.apps.worker:Worker")

    def use_store_amqp(self) -> None:
        """Use our factory of messages and connections, together with the app's own."""
        self._their_amqp = theirs = symbol_by_name(self.amqp_cls)
        self.amqp_cls: type[AMQP] = StoreAMQP if theirs is AMQP else type(theirs.__name__, (StoreAMQP, theirs), {})
        # What was made by the old one.
        self.__dict__.pop("amqp", None)
        self._pool = None

    def __reduce_keys__(self) -> dict[str, Any]:
        """Return what makes the same app again, before it is adopted."""
        keys = super().__reduce_keys__()
        options = dict(keys["changes"].get("broker_transport_options") or {})
        options.pop("submit", None)
        options.pop("store", None)
        changes = {**keys["changes"], "broker_transport_options": options}
        return {**keys, "amqp": self._their_amqp, "changes": changes}

    # --- types

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name of a task that has none of its own; the platform's app names no task after `__main__`."""
        found: str = super().gen_task_name(name, self.celeriac_source.module_name(module))
        return found

    def load_types(self) -> None:
        """Import the task types of the settings and make each one a Celery task. Idempotent."""
        if self._types_loaded:
            return
        self._types_loaded = True
        self.celeriac_source.load_types(self)
        for task_type in self.celeriac_registry:
            if task_type.handler is not None:
                task_class = type("registered", (RegisteredTask,), {"name": task_type.name, "abstract": False})
                self.register_task(task_class())

    def registered_type(self, name: str) -> TaskType | None:
        """Return the task type with this name if this process can run it, or None for a plain Celery task."""
        return self.celeriac_registry.get(name) if isinstance(self.tasks.get(name), RegisteredTask) else None

    # --- records

    def record(
        self, call: PublishedCall, *, queue: str, within_limits: bool = True, publication: str | None = None
    ) -> Submitted:
        """Submit a published call of one of our tasks; `publication` names it (see `publications.py`).

        Raises kombu's `OperationalError` if the store is unavailable, as Celery does for a broker, and
        `QueueFullError` if the group's queue is full.
        """
        submission = placed(self, self.submission_of(call, group=queue, is_accepted=not within_limits), call)
        try:
            self._owned.note(queue)
            return self.records.submit(submission, within_limits=within_limits, nonce=publication)
        except StoreUnavailableError as exc:
            raise OperationalError(str(exc)) from exc

    def record_again(self, call: PublishedCall, *, queue: str, publication: str | None) -> Submitted:
        """Submit a further call of an id that has a record: it runs when the task has ended, or has ended already.

        Raises as `record`. `created` is false if the task waits, or has a further call already.
        """
        submission = self.submission_of(call, group=queue)
        try:
            answer = self.records.submit_again(submission, publication)
        except StoreUnavailableError as exc:
            raise OperationalError(str(exc)) from exc
        # Its record may have gone meanwhile.
        return answer or self.record(call, queue=queue, publication=publication)

    @cached_property
    def _owned(self) -> OwnedGroups:
        """The groups that are noted to be of this app."""
        return OwnedGroups(self)

    def submission_of(self, call: PublishedCall, *, group: str, is_accepted: bool = False) -> Submission:
        """Return the submission for a published call of one of our tasks; a call in a task inherits its key.

        Raises `InvalidSubmissionError` if the arguments do not fit the registered type, and for a key that cannot be
        one, unless the call is accepted already.
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
            accept=self.conf.accept_content,
            key_source=None if task_type is not None else getattr(task, "key_source", None),
            inherited_key=_key_of(publisher_of(self, call.headers)),
            is_accepted=is_accepted,
        )
        return submission_of_call(published, settings, task_type)

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = None,
        eta: Any = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """Publish a task as Celery does; a task of ours gets its record first (see `publishing.py`)."""
        ours = isinstance(self.tasks.get(name), CeleriacTask)
        if ours and not more and countdown is None and eta is None:
            result = self.short_way.publish(name, args, kwargs, options)
            if result is not None:
                return result
        if ours and self.celeriac_settings.other_broker:
            # The record waits. With quorum queues Celery would send the message through delaying queues of the broker.
            options[WHEN], countdown, eta = (countdown, eta), None, None
        result = super().send_task(name, args, kwargs, countdown, eta, *more, **options)
        if ours and isinstance(self.backend, RecordBackend):
            # With `ignore_result` workers store nothing beside the record, which the caller can still read.
            result.ignored = False
        return result

    @cached_property
    def short_way(self) -> ShortWay:
        """What publishes plain calls."""
        return ShortWay(self)

    @cached_property
    def records(self) -> StoreChannel:
        """The store, for Celery's threads and for the threads of programs that publish tasks."""
        return StoreChannel(str(self.celeriac_settings.redis_url), self.celeriac_settings.store)

    def described(self, call: Signature) -> Submission:
        """Return the submission that publishing `call` would make, and publish nothing.

        Celery itself builds the message, so routes, serializers, stamps, headers and signals count as in a call.
        """
        producer = CollectingProducer(self)
        call.apply_async(producer=producer)
        published, queue = producer.take()
        return self.submission_of(published, group=queue)

    # --- the classes of tasks

    def _task_from_fun(self, fun: Any, name: Any = None, base: Any = None, *args: Any, **options: Any) -> Any:
        """Make a task of a function (`@app.task`, `@shared_task`), whatever its base class, with a record."""
        return super()._task_from_fun(fun, name, recorded(base or self.Task), *args, **options)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a class-based task, whatever its base class, with a record."""
        task = task() if isinstance(task, type) else task
        task.__class__ = recorded(type(task))
        return super().register_task(task, **options)


def _key_of(request: Any) -> str | None:
    """Return the key of the task with this request."""
    attempt = None if request is None else getattr(request, ATTEMPT, None)
    return getattr(request, KEY, None) if attempt is None else attempt.claim.key
