"""Records of calls in a chord that never come, because what they come after failed: cancelled, with the reason.

Celery stores only a failure under the ids of such calls. With a record they are nodes of the workflow too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from celery.canvas import Signature, _chain, group
from kombu.exceptions import OperationalError

from celeriac.errors import InvalidSubmissionError, StoreUnavailableError
from celeriac.model import NodeOrders, Status, Submission
from celeriac.tasks.submission import submission_of_unreached
from celeriac_tasks.engine.attempts.base import CeleriacTask
from celeriac_tasks.engine.attempts.replacing import replacement_of
from celeriac_tasks.engine.calls.nodes import following
from celeriac_tasks.engine.calls.payloads import plain_payload, registered_payload
from celeriac_tasks.engine.calls.publications import announced_end

if TYPE_CHECKING:
    from celeriac_tasks.engine.app import CeleriacApp

#: The words of Celery's `ChordError` about the part that failed.
_FAILED: Final = re.compile(r"Dependency (\S+) raised ")


def cancel_body(app: CeleriacApp, body: Any, exc: BaseException | None) -> None:
    """Make a cancelled record of the task of which the caller has the result, or of each one of a group.

    Nothing is done unless the end of a task is being announced. Raises kombu's `OperationalError` if the store is away.
    """
    if (ending := announced_end()) is None:
        return
    parent, named = str(ending.request.id), _FAILED.search(str(exc))
    failed = named[1] if named is not None and not ending.failed else parent
    for part in _tasks_of(body):
        _cancel(app, part, replace(following(parent), unmet=(failed, Status.FAILED)))


def cancel_later_link(app: CeleriacApp, request: Any) -> None:
    """Make a cancelled record of a part of a chord's header that never comes: an earlier link of its chain failed.

    `request` is what Celery makes of that part. Nothing is done for a part that came. Raises as `cancel_body` does.
    """
    ending = announced_end()
    if ending is None or not ending.failed or request.id == ending.request.id:
        return
    parent = str(ending.request.id)
    part = Signature(request.task, request.args, request.kwargs, options=request.options, app=app)
    _cancel(app, part, replace(following(parent, request.group), unmet=(parent, Status.FAILED)))


def _cancel(app: CeleriacApp, part: Signature, orders: NodeOrders) -> None:
    options, ours = part.options, isinstance(app.tasks.get(part.task), CeleriacTask)
    # The record of a task that has been replaced ends in `replacing.py`.
    if not ours or not options.get("task_id") or replacement_of(options):
        return
    submission = replace(_submission(app, part, options), as_node=orders)
    try:
        app.records.submit(submission, within_limits=False)
    except StoreUnavailableError as away:
        raise OperationalError(str(away)) from away


def _submission(app: CeleriacApp, part: Signature, options: Any) -> Submission:
    args, kwargs = list(part.args or ()), dict(part.kwargs or {})
    queue = app.amqp.router.route(dict(options), part.task, args, kwargs).get("queue")
    name = str(getattr(queue, "name", queue) or app.conf.task_default_queue)
    try:
        written = registered_payload if app.registered_type(part.task) else _plain
        payload = written(args, kwargs)
    except InvalidSubmissionError:
        payload = "{}"
    return submission_of_unreached(
        str(options["task_id"]), part.task, payload=payload, group=name, settings=app.celeriac_settings
    )


def _plain(args: list[Any], kwargs: dict[str, Any]) -> str:
    return plain_payload(args, kwargs, {})


def _tasks_of(body: Any, task_id: str | None = None) -> Iterator[Signature]:
    """Yield the tasks of a body whose ids are known: one, the last one of a chain, or those of a group."""
    if type(body) is Signature:
        # The links of a chain get their own ids when it is published; it has that of its last one.
        yield body if task_id is None else body.clone().set(task_id=task_id)
    elif isinstance(body, _chain) and body.tasks:
        yield from _tasks_of(body.tasks[-1], body.options.get("task_id"))
    elif isinstance(body, group):
        for part in body.tasks:
            yield from _tasks_of(part)
