"""Functions that calculate, fail, wait, and tell what they were called with."""

from __future__ import annotations

import enum
import time
from typing import Any

from celery import Task, group, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import allow_join_result
from pydantic import BaseModel

from tests.kit.conformance.project import app
from tests.kit.conformance.project.notes import note, wait_for


@app.task(name="add")
def add(x: Any, y: Any = 0) -> Any:
    return x + y


@app.task(name="mul")
def mul(x: Any, y: Any) -> Any:
    return x * y


@app.task(name="tsum")
def tsum(numbers: Any) -> Any:
    return sum(numbers)


@app.task(name="identity")
def identity(value: Any) -> Any:
    return value


@app.task(name="pair")
def pair(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@app.task(name="nothing")
def nothing() -> None:
    return None


@shared_task(name="shared_add")
def shared_add(x: int, y: int) -> int:
    return x + y


@app.task
def named_by_itself() -> str:
    return "ran"


@app.task(name="type_of")
def type_of(value: Any) -> list[str]:
    """Tell what arrived, of which type."""
    return [type(value).__name__, repr(value)]


@app.task(name="about", bind=True)
def about(self: Task, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Tell about the request; ids only by whether they are there and equal."""
    request = self.request
    delivery = request.delivery_info or {}
    return {
        "args": request.args,
        "kwargs": request.kwargs,
        "retries": request.retries,
        "eager": request.is_eager,
        "direct": request.called_directly,
        "queue": delivery.get("routing_key"),
        "exchange": delivery.get("exchange"),
        "priority": delivery.get("priority"),
        "redelivered": bool(delivery.get("redelivered")),
        "expires": request.expires is not None,
        "eta": request.eta is not None,
        "timelimit": list(request.timelimit or []),
        "origin": bool(request.origin),
        "hostname": bool(request.hostname),
        "reply_to": bool(request.reply_to),
        "correlated": request.correlation_id == request.id,
        "root": request.root_id == request.id,
        "parent": request.parent_id is not None,
        "group": request.group is not None,
        "chord": request.chord is not None,
        "callbacks": len(request.callbacks or []),
        "errbacks": len(request.errbacks or []),
        "chain": [link["task"] for link in request.chain or []],
        "argsrepr": getattr(request, "argsrepr", None),
        "kwargsrepr": getattr(request, "kwargsrepr", None),
        "shadow": getattr(request, "shadow", None),
        "ignore_result": bool(request.ignore_result),
        "stamps": getattr(request, "stamps", None),
        "stamped_headers": sorted(getattr(request, "stamped_headers", None) or []),
        "own": (request.headers or {}).get("x-own") or getattr(request, "x-own", None),
        "utc": getattr(request, "utc", None),
        "task": getattr(request, "task", None),
        "lang": getattr(request, "lang", None),
    }


@app.task(name="request_field", bind=True)
def request_field(self: Task, field: str, *_: Any) -> Any:
    return getattr(self.request, field)


@app.task(name="routed.about", bind=True)
def routed_about(self: Task) -> Any:
    return self.request.delivery_info["routing_key"]


@app.task(name="annotated", bind=True)
def annotated(self: Task) -> Any:
    return [self.max_retries, self.rate_limit]


@app.task(name="limited", rate_limit="200/m")
def limited() -> str:
    return "ran"


@app.task(name="quiet", ignore_result=True)
def quiet(key: str) -> int:
    note(key, "ran")
    return 5


@app.task(name="noted")
def noted(key: str, value: Any = "ran") -> Any:
    note(key, value)
    return value


@app.task(name="noted_when_released")
def noted_when_released(key: str, value: Any) -> Any:
    wait_for(key)
    note(key, value)
    return value


@app.task(name="note_last")
def note_last(value: Any, key: str) -> Any:
    """Note the first argument, as a callback gets it."""
    note(key, value)
    return value


@app.task(name="expiring", expires=30)
def expiring() -> str:
    return "ran"


@app.task(name="held", bind=True)
def held(self: Task, key: str, value: Any = "released") -> Any:
    """Wait until a probe releases the key."""
    note(key, "began")
    return value if wait_for(key) else "never released"


@app.task(name="calls_itself", bind=True)
def calls_itself(self: Task, key: str, left: int) -> None:
    """Publish another call of its own id, as some projects do instead of a retry."""
    note(key, left)
    if left:
        self.apply_async((key, left - 1), task_id=self.request.id)


@app.task(name="calls_child")
def calls_child(key: str, child: str) -> None:
    """Call a task by an id that is always the same."""
    noted.apply_async((key, "child"), task_id=child)


@app.task(name="failing")
def failing(*_: Any) -> None:
    raise ValueError("boom")


@app.task(name="failing_sometimes")
def failing_on(x: int, bad: int) -> int:
    if x == bad:
        raise ValueError(f"bad {x}")
    return x


@app.task(name="errback_old")
def errback_old(task_id: str, key: str = "") -> None:
    """Take the id alone: the errback of the old style."""
    note(key or task_id, ["old", task_id])


@app.task(name="errback")
def errback(request: Any, exc: BaseException, traceback: Any, key: str = "") -> None:
    """Take request, exception and traceback: the errback of the new style."""
    note(key or request.id, ["new", type(exc).__name__, str(exc), bool(traceback), request.task])


@app.task(name="untyped", typing=False)
def untyped(x: int) -> int:
    return x


@app.task(name="busy")
def busy(seconds: float) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
    return "whole"


@app.task(name="soft")
def softly(seconds: float) -> str:
    try:
        return str(busy(seconds))
    except SoftTimeLimitExceeded:
        return "part"


@app.task(name="soft_by_decorator", soft_time_limit=6, bind=True)
def soft_by_decorator(self: Task) -> list[Any]:
    try:
        busy(30)
    except SoftTimeLimitExceeded as exc:
        return [type(exc).__name__, list(exc.args), self.soft_time_limit, self.time_limit]
    return ["whole"]


@app.task(name="hard_by_decorator", time_limit=1)
def hard_by_decorator() -> str:
    return str(busy(20))


@app.task(name="parent", bind=True)
def parent(self: Task, count: int) -> list[bool]:
    """Call children; tell what they are told of their ancestors."""
    for number in range(count):
        add.delay(number, 1)
    return [len(self.request.children) == count, self.request.root_id == self.request.id]


@app.task(name="estranged", bind=True)
def estranged(self: Task) -> int:
    """Call a child that is not to be a child."""
    add.apply_async((1, 1), add_to_parent=False)
    return len(self.request.children)


@app.task(name="ancestors", bind=True)
def ancestors(self: Task, *_: Any) -> list[Any]:
    return [self.request.root_id, self.request.parent_id]


@app.task(name="asks_child", bind=True)
def asks_child(self: Task, allowed: bool, depth: int = 1) -> Any:
    """Wait for a child, which Celery forbids unless it is allowed."""
    child = add.delay(depth, 1)
    if allowed:
        with allow_join_result():
            return child.get(timeout=20)
    return child.get(timeout=20)


@app.task(name="calls_group", bind=True)
def calls_group(self: Task, numbers: list[int]) -> int:
    group(add.s(number, 1) for number in numbers).apply_async()
    return len(self.request.children)


class Colour(enum.StrEnum):
    """An enumeration of texts, which is JSON by itself."""

    RED = "red"


class Point(BaseModel):
    """What a task with `pydantic=True` takes and gives."""

    x: int
    y: int = 5


@app.task(name="moved", pydantic=True)
def moved(point: Point, by: int = 1) -> Point:
    assert isinstance(point, Point)
    return Point(x=point.x + by, y=point.y)


@app.task(name="moved_strictly", pydantic=True, pydantic_strict=True)
def moved_strictly(point: Point) -> Point:
    return point


@app.task(name="gives")
def gives(what: str) -> Any:
    """Return a value that only Python has."""
    from tests.kit.conformance.project import values

    return values.VALUES[what]


@app.task(name="beaten", bind=True)
def beaten(self: Task, which: str, by: str = "") -> None:
    note(f"beat:{which}", [by, self.request.delivery_info["routing_key"]])


@app.on_after_finalize.connect
def setup_periodic(sender: Any, **_: Any) -> None:
    """Add a schedule in code, as Celery's documentation shows."""
    sender.add_periodic_task(1.0, beaten.s("added", by="code"), name="added in code")


@app.task(name="by_name_only", bind=True)
def by_name_only(self: Task, *args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@app.task(name="generates")
def generates(count: int) -> list[int]:
    return list(range(count))


@app.task(name="self_named", bind=True)
def self_named(self: Task) -> list[str]:
    return [self.name, type(self).__name__, str(self.app.main == app.main)]
