"""What `replace()` makes of the record of a task: another call takes over the id, and with it the record.

A task may put one call, a chain or a chord in its place. The call that ends all this has the task's id. When it is
published, by this task or much later by another one, it takes the record over (`store/lua/transitions/replace.lua`).
Until then the record waits (`await_replacement.lua`).

Each such call says how many calls had the id before. Celery counts them in the header `replaced_task_nesting`, but does
not write it into every part of a canvas, so it is done here. A call that comes again, because the worker that had
published it died, has the same number as the record and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Final

from celery.states import FAILURE

#: The option of a signature, the header of a message and the attribute of a request.
_NUMBER: Final = "replaced_task_nesting"
#: The longest text that says why a task failed (characters).
_MOST_TEXT: Final = 1000


def replacement_of(call: Any) -> int:
    """Return how many calls had the id of a call before, by its headers or, while it runs, by its request."""
    number = call.get(_NUMBER, 0)
    return max(number, 0) if isinstance(number, int) else 0


def number_replacement(sig: Any, number: int) -> None:
    """Write the number into all parts of a signature that may have the id of the task that it replaces."""
    for part in _parts(sig):
        part.setdefault("options", {})[_NUMBER] = number


def fail_what_waits(task: Any, request: Any, exc: BaseException | None = None) -> None:
    """Fail the replaced tasks that wait for a part which will not come any more, now that a call has ended.

    The later links of a chain do not come after a failure (`exc`). The body of a chord does not come if Celery has
    stored its failure, as it does when all parts of the header have ended.
    """
    chain = list(request.chain or ()) if exc is not None else []
    chords = [request.chord, *((part.get("options") or {}).get("chord") for part in _parts(*chain))]
    failed = _replacing(chain)
    failed += [
        (body, number) for body, number in _replacing(chords) if _stored(task.backend, body)["status"] == FAILURE
    ]
    if failed:
        why = f"{task.name} [{request.id}] failed: {exc!r}" if exc is not None else "a part of its chord failed"
        task.app.records.fail_replaced(failed, why[:_MOST_TEXT])


def _stored(backend: Any, task_id: str) -> Any:
    """Return what Celery has stored of a task; the record of one whose attempt runs would say only that."""
    if hasattr(backend, "stored_apart"):
        return backend.stored_apart(task_id)
    return backend.get_task_meta(task_id, cache=False)


def _replacing(sigs: Iterable[Any]) -> list[tuple[str, int]]:
    """Return the ids of replaced tasks in signatures, and how many calls had each before."""
    options = [part.get("options") or {} for part in _parts(*sigs)]
    found = [(one.get("task_id"), replacement_of(one)) for one in options]
    return [(task_id, number) for task_id, number in found if task_id and number]


def _parts(*sigs: Any) -> Iterator[MutableMapping[str, Any]]:
    """Yield signatures and those in them, except for the headers of chords: they have ids of their own."""
    left = list(sigs)
    while left:
        part = left.pop()
        if not isinstance(part, MutableMapping):
            continue
        yield part
        kwargs = part.get("kwargs") or {}
        if part.get("subtask_type") == "chain":
            left += kwargs.get("tasks") or ()
        elif part.get("subtask_type") == "chord":
            left.append(kwargs.get("body"))
