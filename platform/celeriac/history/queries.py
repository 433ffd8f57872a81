"""The statements that read tasks.

A page is read along an index whose first columns are selected by and whose next columns are sorted by. The next page
begins after the last row (keyset), so all pages cost the same. For several statuses, and for a search in ids and
messages, each alternative is a branch with such a page, and the first rows of all branches are the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Select, and_, case, exists, func, literal, select, tuple_, union_all
from sqlalchemy.sql.elements import ColumnElement

from celeriac.database.cursor import Cursor
from celeriac.database.task_tables import tags, tasks
from celeriac.model import ms_from_utc
from celeriac.task_filter import Sort, TaskFilter

#: Lists leave out payloads and results that are longer than this (characters); reading the task itself shows them.
LISTED_CHARACTERS: Final = 64 * 1024

#: The columns that may be left out.
LONG: Final = ("payload", "result")

_SORTED_BY: Final = {"created_at": "created_ms", "finished_at": "finished_ms", "updated_at": "updated_ms"}
_c: Final = tasks.c


def sort_value(sort: Sort, row: Any) -> int:
    """Return the value by which a row is sorted."""
    value: int = row[_SORTED_BY[sort.by]]
    return value


def omitted(column: str) -> str:
    """Return the name of the column that says whether a long column was left out."""
    return f"{column}_omitted"


def page(task_filter: TaskFilter, sort: Sort, limit: int, after: Cursor | None) -> Select[Any]:
    """Return the statement for `limit` tasks in order, after the cursor `after`, without long texts."""
    branches = [_branch(conditions, task_filter, sort, limit, after) for conditions in _branches(task_filter)]
    if len(branches) == 1:
        ids = branches[0].subquery()
    else:
        # Each as a table in parentheses: SQLite does not accept ORDER BY inside a plain UNION.
        ids = union_all(*(select(branch.subquery()) for branch in branches)).subquery()
    at = ids.c.at_ms
    order = (at.desc(), ids.c.id.desc()) if sort.descending else (at, ids.c.id)
    listed: list[Any] = [column for column in tasks.c if column.name not in LONG]
    for name in LONG:
        size = func.length(_c[name])
        listed.append(case((size <= LISTED_CHARACTERS, _c[name])).label(name))
        listed.append((size > LISTED_CHARACTERS).label(omitted(name)))
    return select(*listed).select_from(ids.join(tasks, _c.task_id == ids.c.id)).order_by(*order).limit(limit)


def count(task_filter: TaskFilter) -> Select[Any]:
    """Return the statement that counts the tasks of a filter."""
    branches = [select(_c.task_id).where(*conditions) for conditions in _branches(task_filter, tags_by_join=False)]
    found = branches[0] if len(branches) == 1 else union_all(*branches)
    return select(func.count()).select_from(found.subquery())


def one(task_id: str) -> Select[Any]:
    """Return the statement for one task's row."""
    return select(tasks).where(_c.task_id == task_id)


def ids(prefix: str, limit: int, user_id: str | None) -> Select[Any]:
    """Return the statement for the first ids that begin with `prefix`, in order."""
    found = select(_c.task_id).where(*_beginning(_plain(prefix)))
    if user_id is not None:
        found = found.where(_c.user_id == _plain(user_id))
    return found.order_by(_c.task_id).limit(limit)


def _branch(
    conditions: list[ColumnElement[bool]], task_filter: TaskFilter, sort: Sort, limit: int, after: Cursor | None
) -> Select[Any]:
    at, task_id = _c[_SORTED_BY[sort.by]], _c.task_id
    if task_filter.tag and sort.by == "created_at":
        # By the table of tags, which is sorted by creation too.
        at, task_id = tags.c.created_ms, tags.c.task_id
    found = select(at.label("at_ms"), task_id.label("id")).where(*conditions)
    if task_filter.tag:
        found = found.select_from(tags.join(tasks, tags.c.task_id == _c.task_id)).where(
            tags.c.tag == task_filter.tag[0]
        )
    if sort.by == "finished_at":
        found = found.where(_c.finished_ms.is_not(None))
    if after is not None:
        behind = tuple_(literal(after.at_ms), literal(after.task_id))
        found = found.where(tuple_(at, task_id) < behind if sort.descending else tuple_(at, task_id) > behind)
    order = (at.desc(), task_id.desc()) if sort.descending else (at, task_id)
    return found.order_by(*order).limit(limit)


def _branches(task_filter: TaskFilter, *, tags_by_join: bool = True) -> Iterator[list[ColumnElement[bool]]]:
    """Yield the conditions of each branch; a task is in at most one branch."""
    shared = list(_conditions(task_filter))
    for tag in task_filter.tag[1:] if tags_by_join else task_filter.tag:
        tagged = tags.alias()
        shared.append(exists().where(tagged.c.tag == tag, tagged.c.task_id == _c.task_id))
    for of_status in [[_c.status == status.stored] for status in task_filter.status] or [[]]:
        for of_search in _searches(task_filter.q):
            yield [*shared, *of_status, *of_search]


def _conditions(task_filter: TaskFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("type", "queue", "user_id", "key", "definition_id", "workflow_id"):
        if (value := getattr(task_filter, name)) is not None:
            yield _c[name] == _plain(value)
    for name in ("created", "finished"):
        after, before = getattr(task_filter, f"{name}_after"), getattr(task_filter, f"{name}_before")
        if after is not None:
            yield _c[f"{name}_ms"] >= ms_from_utc(after)
        if before is not None:
            yield _c[f"{name}_ms"] < ms_from_utc(before)


def _searches(q: str | None) -> list[list[ColumnElement[bool]]]:
    if q is None:
        return [[]]
    q = _plain(q)
    of_id = and_(*_beginning(q))
    in_message = func.lower(_c.error_message).contains(q.lower(), autoescape=True)
    return [[of_id], [_c.error_message.is_not(None), in_message, ~of_id]]


def _beginning(prefix: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _c.task_id >= prefix, _c.task_id < prefix + "\U0010ffff"


def _plain(text: str) -> str:
    return text.replace("\x00", "\ufffd")
