"""Which published calls are nodes of a workflow: chains, groups, chords and callbacks show as a graph.

A canvas from outside of tasks is a workflow. It has the id of its first task, or of its group if it is one. What a task
publishes at its end (the next link of its chain, a callback, the body of a chord) is a node of the workflow of that
task, after it. A canvas that a handler publishes belongs to the workflow of its task, which begins with it if the task
is alone, below the task's node. A plain call in a handler belongs to no workflow: a task that calls itself would have
one without an end. A node is called after its Celery task; the store adds `#2` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from celeriac.model import NodeOrders, Submission, When
from celeriac_tasks.engine.calls.publications import announced_end, publisher_of
from celeriac_tasks.engine.calls.published_call import PublishedCall

if TYPE_CHECKING:
    from celeriac_tasks.engine.app import CeleriacApp

#: The group of the chord whose body is being published, or whose failure is being told.
_AFTER_GROUP: Final[ContextVar[str | None]] = ContextVar("celeriac_after_group", default=None)


@contextmanager
def following_group(group: str | None) -> Iterator[None]:
    """Let what is published meanwhile come after the members of a group: it is the body of a chord."""
    before = _AFTER_GROUP.set(group)
    try:
        yield
    finally:
        _AFTER_GROUP.reset(before)


def following(parent: str, in_group: str | None = None) -> NodeOrders:
    """Return the place of a call that is published at the end of the task `parent`."""
    ending = announced_end()
    when = When.ENDED if ending is not None and ending.failed else When.COMPLETED
    return NodeOrders(
        numbered=True, optional=True, follows=parent, when=when, in_group=in_group, after_group=_AFTER_GROUP.get()
    )


def placed(app: CeleriacApp, submission: Submission, call: PublishedCall) -> Submission:
    """Return the submission of a published call as a node of a workflow, if it is one."""
    parent, group = call.headers.get("parent_id"), call.headers.get("group")
    published_by = publisher_of(app, call.headers)
    if parent and published_by is not None and announced_end() is not None:
        return replace(submission, node=submission.type, as_node=following(parent, group))
    embedded = call.embedded(app.conf.accept_content)
    if not group and not any(embedded.get(name) for name in ("chain", "chord", "callbacks")):
        return submission
    if not parent:
        workflow = _outermost_group(group, embedded) or submission.task_id
        orders = NodeOrders(numbered=True, optional=True, in_group=group)
        return replace(submission, workflow_id=workflow, node=submission.type, as_node=orders)
    if published_by is None:
        orders = following(parent, group)
    else:
        orders = NodeOrders(numbered=True, optional=True, spawned_by=parent, in_group=group)
    return replace(submission, node=submission.type, as_node=orders)


def _outermost_group(group: str | None, embedded: Mapping[str, Any]) -> str | None:
    """Return the id of the group that contains all of a canvas, by what Celery embeds in the call of its first task."""
    chain = embedded.get("chain")
    # The last link comes first.
    part = chain[0] if chain else embedded.get("chord")
    while isinstance(part, Mapping):
        options = part.get("options") or {}
        if options.get("chain"):
            part = options["chain"][0]
        else:
            group = options.get("group_id") or group
            part = options.get("chord")
    return group
