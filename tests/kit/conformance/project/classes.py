"""Task classes of all kinds that projects write."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore

from tests.kit.conformance.project import app
from tests.kit.conformance.project.notes import note
from tests.kit.conformance.project.states import OwnError


class Told(Task):
    """Notes all its handlers."""

    abstract = True
    label = "base"

    def _tell(self, handler: str, task_id: str, *values: Any) -> None:
        note(f"handlers:{task_id}", [handler, *values])

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self._tell("before_start", task_id, list(args), kwargs)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self._tell("on_success", task_id, retval, list(args), kwargs)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._tell("on_failure", task_id, type(exc).__name__, str(exc), list(args), kwargs, type(einfo).__name__)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._tell("on_retry", task_id, type(exc).__name__, str(exc), list(args), kwargs, type(einfo).__name__)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._tell("after_return", task_id, status, type(retval).__name__, einfo is not None)


@app.task(base=Told, bind=True, name="told", default_retry_delay=0.1)
def told(self: Told, how: str, **_: Any) -> str:
    if how == "fail":
        raise OwnError("told")
    if how == "ignore":
        raise Ignore
    if how == "retry" and self.request.retries == 0:
        raise self.retry(exc=OwnError("later"))
    return self.label


@shared_task(base=Told, bind=True, name="shared_told")
def shared_told(self: Told, x: int) -> list[Any]:
    return [self.label, x]


class Around(Task):
    """Does something around each run."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["around", super().__call__(*args, **kwargs)]


@app.task(base=Around, name="around")
def around(x: int) -> int:
    return x


class InContext(app.Task):
    """Calls `run` itself, as Flask's recipe does."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["context", self.run(*args, **kwargs)]


@app.task(base=InContext, name="in_context")
def in_context(x: int) -> int:
    if x < 0:
        raise OwnError("negative")
    return x


class Counting(Task):
    """Keeps a connection, or what stands for one, in its process."""

    abstract = True
    _connection: Any = None

    @property
    def connection(self) -> str:
        if self._connection is None:
            self._connection = "opened"
        return str(self._connection)


@app.task(base=Counting, bind=True, name="counting")
def counting(self: Counting) -> str:
    return self.connection


class ByClass(Task):
    """A class-based task."""

    name = "by_class"
    max_retries = 9

    def __init__(self) -> None:
        self.prepared = "prepared"

    def run(self, x: int) -> list[Any]:
        return [self.prepared, x, self.max_retries, self.request.id is not None]


by_class = app.register_task(ByClass())


class Calling(Task):
    """Adds to each call what the project wants in every message."""

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        options.setdefault("headers", {})["x-own"] = "from the class"
        return super().apply_async(args, kwargs, **options)

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
        return f"shadow {args[0]}"


@app.task(base=Calling, bind=True, name="calling")
def calling(self: Calling, x: int) -> list[Any]:
    request = self.request
    return [x, (request.headers or {}).get("x-own") or getattr(request, "x-own", None), request.shadow]


class FromConfig(Task):
    """Takes attributes from the configuration."""

    abstract = True
    from_config = (*Task.from_config, ("enable_colour", "project_colour"))


app.conf.project_colour = "green"


# Celery makes every task of an app in all other apps of the process too, where this configuration is missing.
@app.task(base=FromConfig, bind=True, name="from_config", shared=False)
def from_config(self: Any) -> str:
    return str(self.enable_colour)


class Bound(Task):
    """Is told when it is bound to its app."""

    abstract = True
    bound_to: Any = None

    @classmethod
    def on_bound(cls, bound_app: Any) -> None:
        cls.bound_to = bound_app.main


@app.task(base=Bound, bind=True, name="bound")
def bound(self: Any) -> bool:
    return self.bound_to is not None
