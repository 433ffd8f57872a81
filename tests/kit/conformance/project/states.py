"""Tasks that set states, retry, raise, and are aborted."""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.contrib.abortable import AbortableTask
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject

from tests.kit.conformance.project import app
from tests.kit.conformance.project.notes import note, notes, wait_for


class OwnError(Exception):
    """An exception class of the project's own."""


class Outer:
    """Holds a nested class."""

    class InnerError(Exception):
        """A nested exception class."""


class SeveralError(Exception):
    """Takes several arguments and keeps them."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class StubbornError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Unwritable:
    """Something that no serializer knows."""

    def __repr__(self) -> str:
        return "<unwritable>"


def _local_error() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("local")


ERRORS: dict[str, Any] = {
    "own": lambda: OwnError("its text"),
    "own without text": OwnError,
    "nested": lambda: Outer.InnerError("inside"),
    "several": lambda: SeveralError(3, "three"),
    "stubborn": lambda: StubbornError(code=4),
    "unwritable": lambda: OwnError(Unwritable()),
    "typed": lambda: OwnError({"a": (1, 2)}, b"x"),
    "local": _local_error,
    "key": lambda: KeyError("kk"),
    "os": lambda: OSError(2, "No such file", "name"),
    "decode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "assert": AssertionError,
    "timeout": lambda: TimeoutError("late"),
    "stop": lambda: StopIteration(3),
    "exit": lambda: SystemExit(5),
    "group": lambda: ExceptionGroup("many", [ValueError("a"), KeyError("b")]),
    "unicode": lambda: ValueError("ä€😀"),
    "long": lambda: ValueError("x" * 10_000),
    "max retries": lambda: MaxRetriesExceededError("by hand"),
    "base": lambda: type("OwnBase", (BaseException,), {})("from the root"),
}


@app.task(name="raises")
def raises(what: str) -> None:
    raise ERRORS[what]()


@app.task(name="raises_from")
def raises_from() -> None:
    try:
        raise KeyError("first")
    except KeyError as exc:
        raise OwnError("second") from exc


@app.task(name="expected", throws=(OwnError,))
def expected() -> None:
    raise OwnError("expected")


@app.task(name="reports", bind=True)
def reports(self: Task, key: str, *changes: Any) -> str:
    """Set one state after another; each time but the last wait until the probe has seen it."""
    for number, (state, meta) in enumerate(changes):
        self.update_state(state=state, meta=meta)
        note(key, state)
        wait_for(f"{key}:{number}")
    return "reported"


@app.task(name="own_state", bind=True)
def own_state(self: Task, state: str, meta: Any) -> None:
    self.update_state(state=state, meta=meta)
    raise Ignore


@app.task(name="ignores", bind=True)
def ignores(self: Task, key: str) -> None:
    note(key, "ran")
    raise Ignore("never mind")


@app.task(name="rejects", acks_late=True, bind=True)
def rejects(self: Task, key: str, requeue: bool) -> str:
    """Reject the first time; the second time tell whether the message said that it came again."""
    note(key, "ran")
    if len(notes(key)) == 1:
        raise Reject("no", requeue=requeue)
    return "came again"


@app.task(name="rejects_until_redelivered", acks_late=True, bind=True)
def rejects_until_redelivered(self: Task, key: str) -> str:
    """Reject as long as the message says that it is a first one, as a task that knows that it comes again."""
    note(key, [bool(self.request.delivery_info["redelivered"]), self.request.retries])
    if not self.request.delivery_info["redelivered"]:
        raise Reject("not yet", requeue=True)
    return "came again"


@app.task(name="started", bind=True, track_started=True)
def started(self: Task, key: str) -> str:
    note(key, "began")
    wait_for(key)
    return "ended"


@app.task(name="aborted", bind=True, base=AbortableTask)
def abortable(self: Any, key: str) -> str:
    note(key, "began")
    for _ in range(1500):
        if self.is_aborted():
            return "aborted"
        if wait_for(key, 0.02):
            return "released"
    return "never"


# --- retries


@app.task(name="again", bind=True, default_retry_delay=0.1, max_retries=3)
def again(self: Task, until: int, how: str = "") -> Any:
    """Retry until the count is reached; `how` says what the retry is given."""
    retries = self.request.retries
    if retries >= until:
        return f"after {retries}"
    exc = OwnError(f"not yet {retries}") if how == "exc" else None
    raise self.retry(exc=exc)


@app.task(name="retry_from_error", bind=True, default_retry_delay=0.1, max_retries=1)
def retry_from_error(self: Task) -> None:
    try:
        raise KeyError("cause")
    except KeyError as exc:
        raise self.retry() from exc


@app.task(name="without_throw", bind=True, default_retry_delay=0.1)
def without_throw(self: Task, key: str) -> str:
    note(key, self.request.retries)
    if self.request.retries == 0:
        retry = self.retry(throw=False)
        return type(retry).__name__
    return "second"


@app.task(name="with_options", bind=True, default_retry_delay=0.1)
def with_options(self: Task, options: dict[str, Any]) -> Any:
    """Retry once with options; the second run tells what became of them."""
    request = self.request
    if request.retries == 0:
        raise self.retry(**options)
    return {
        "args": request.args,
        "kwargs": {name: value for name, value in request.kwargs.items() if name != "options"},
        "queue": request.delivery_info["routing_key"],
        "priority": request.delivery_info["priority"],
        "own": (request.headers or {}).get("x-own"),
        "limits": list(request.timelimit or []),
        "expires": request.expires is not None,
        "ignored": bool(request.ignore_result),
        "callbacks": len(request.callbacks or []),
        "errbacks": len(request.errbacks or []),
        "shadow": request.shadow,
    }


@app.task(name="with_arguments", bind=True, default_retry_delay=0.1)
def with_arguments(self: Task, a: Any, b: Any = 0, *, args: Any = None, kwargs: Any = None) -> Any:
    if self.request.retries == 0:
        raise self.retry(args=args, kwargs=kwargs)
    return [a, b]


@app.task(name="waits_to_retry", bind=True)
def waits_to_retry(self: Task, key: str) -> str:
    """Wait long between two runs, so that a probe sees the state."""
    note(key, self.request.retries)
    if self.request.retries == 0:
        raise self.retry(exc=OwnError("come back"), countdown=12)
    return "came back"


@app.task(name="waits_to_be_revoked", bind=True)
def waits_to_be_revoked(self: Task, key: str) -> None:
    """Retry when it is released."""
    note(key, self.request.retries)
    wait_for(key)
    raise self.retry(countdown=0)


@app.task(name="keeps_identity", bind=True, default_retry_delay=0.1)
def keeps_identity(self: Task, key: str) -> list[Any]:
    """Tell whether the second run has what the first one had."""
    request = self.request
    note(key, [request.id, request.root_id, request.parent_id, request.group, request.stamps, request.argsrepr])
    if request.retries == 0:
        raise self.retry()
    first, second = notes(key)
    return [one == other for one, other in zip(first, second, strict=True)]


@app.task(name="for_ever", bind=True, max_retries=None, default_retry_delay=0.05)
def for_ever(self: Task, until: int) -> int:
    if self.request.retries < until:
        raise self.retry()
    return int(self.request.retries)


@app.task(name="never_again", bind=True, max_retries=0)
def never_again(self: Task) -> None:
    raise self.retry(exc=OwnError("at once"))


@app.task(name="never_again_bare", bind=True, max_retries=0)
def never_again_bare(self: Task) -> None:
    raise self.retry()


@app.task(name="fallback", bind=True, max_retries=1, default_retry_delay=0.1)
def fallback(self: Task) -> str:
    try:
        raise self.retry()
    except MaxRetriesExceededError:
        return f"fallback after {self.request.retries}"


AUTO: dict[str, Any] = {"bind": True, "default_retry_delay": 0.1}


@app.task(name="auto", autoretry_for=(OSError,), max_retries=2, **AUTO)
def auto(self: Task, until: int, kind: str = "os") -> str:
    if self.request.retries < until:
        raise ERRORS[kind]() if kind in ERRORS else OSError(kind)
    return f"after {self.request.retries}"


@app.task(name="auto_kwargs", autoretry_for=(OSError,), retry_kwargs={"max_retries": 1, "countdown": 0.1}, bind=True)
def auto_kwargs(self: Task) -> str:
    if self.request.retries < 1:
        raise OSError("once")
    return f"after {self.request.retries}"


@app.task(
    name="auto_backoff", autoretry_for=(OSError,), retry_backoff=1, retry_backoff_max=1, retry_jitter=False, **AUTO
)
def auto_backoff(self: Task) -> str:
    if self.request.retries < 2:
        raise OSError("later")
    return f"after {self.request.retries}"


@app.task(name="auto_but", autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), max_retries=2, **AUTO)
def auto_but(self: Task, kind: str) -> str:
    if self.request.retries < 1:
        raise ERRORS[kind]()
    return f"after {self.request.retries}"


# --- replacement


@app.task(name="replaced", bind=True)
def replaced(self: Task, with_what: str, *args: Any) -> Any:
    """Put something else in its own place."""
    from celery import chain, chord, group

    from tests.kit.conformance.project import tasks

    raise self.replace(
        {
            "task": lambda: tasks.add.s(10, 1),
            "group": lambda: group(tasks.add.s(1, 1), tasks.add.s(2, 2)),
            "chain": lambda: chain(tasks.add.s(1, 1), tasks.add.s(10)),
            "chord": lambda: chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.tsum.s()),
            "failing": lambda: tasks.failing.s(),
            "again": lambda: replaced.s("task"),
            "empty group": lambda: group(),
        }[with_what]()
    )


@app.task(name="grows", bind=True)
def grows(self: Task, number: int) -> int:
    """Add a task to the chord it is part of."""
    from tests.kit.conformance.project import tasks

    self.add_to_chord(tasks.add.s(number, 100))
    return number
