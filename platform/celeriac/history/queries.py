"""The statements that read tasks.

A page is read along an index whose first columns are selected by and whose next columns are sorted by. The next page
begins after the last row (keyset), so all pages cost the same. For several statuses, and for a search in ids and
messages, each alternative is a branch with such a page, and the first rows of all branches are the result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final

from sqlalchemy import Select, Text, and_, case, cast, exists, func, literal, null, or_, select, tuple_, union_all
from sqlalchemy.sql.elements import ColumnElement

from celeriac.database.cursor import Cursor
from celeriac.database.task_tables import tags, tasks
from celeriac.model import ms_from_utc
from celeriac.task_filter import Sort, TaskFilter
from celeriac.task_query import Query, Term, moment_of

#: Lists leave out payloads and results that are longer than this (characters); reading the task itself shows them.
LISTED_CHARACTERS: Final = 64 * 1024

#: The columns that may be left out.
LONG: Final = ("payload", "result")

#: Most branches of one statement.
_MOST_BRANCHES: Final = 16
#: The fields of a query that are columns of which a task has one value.
_COLUMNS: Final = {
    "status": "status",
    "type": "type",
    "key": "key",
    "user": "user_id",
    "group": "queue",
    "workflow": "workflow_id",
    "definition": "definition_id",
    "error": "error_code",
}
_MOMENTS: Final = {
    "after": "created_ms",
    "before": "created_ms",
    "finished_after": "finished_ms",
    "finished_before": "finished_ms",
}

_SORTED_BY: Final = {"created_at": "created_ms", "finished_at": "finished_ms", "updated_at": "updated_ms"}
_c: Final = tasks.c
Condition = ColumnElement[bool]


def sort_value(sort: Sort, row: Any) -> int:
    """Return the value by which a row is sorted."""
    value: int = row[_SORTED_BY[sort.by]]
    return value


def omitted(column: str) -> str:
    """Return the name of the column that says whether a long column was left out."""
    return f"{column}_omitted"


def page(
    task_filter: TaskFilter,
    sort: Sort,
    limit: int,
    after: Cursor | None,
    without: Collection[str] = (),
    found: Condition | None = None,
) -> Select[Any]:
    """Return the statement for `limit` tasks in order, after the cursor `after`, without long texts.

    The columns `without`, which are texts, are null and not read. `found` is the condition that a task has the words of
    the filter's query; None looks for them in errors.
    """
    branches = [_branch(conditions, task_filter, sort, limit, after) for conditions in _branches(task_filter, found)]
    if len(branches) == 1:
        ids = branches[0].subquery()
    else:
        # Each as a table in parentheses: SQLite does not accept ORDER BY inside a plain UNION.
        ids = union_all(*(select(branch.subquery()) for branch in branches)).subquery()
    at = ids.c.at_ms
    order = (at.desc(), ids.c.id.desc()) if sort.descending else (at, ids.c.id)
    listed: list[Any] = [column for column in tasks.c if column.name not in LONG and column.name not in without]
    listed += [cast(null(), Text).label(name) for name in without]
    for name in LONG:
        if name in without:
            continue
        size = func.length(_c[name])
        listed.append(case((size <= LISTED_CHARACTERS, _c[name])).label(name))
        listed.append((size > LISTED_CHARACTERS).label(omitted(name)))
    return select(*listed).select_from(ids.join(tasks, _c.task_id == ids.c.id)).order_by(*order).limit(limit)


def count(task_filter: TaskFilter, found: Condition | None = None) -> Select[Any]:
    """Return the statement that counts the tasks of a filter; `found` as in `page`."""
    by_rows = _branches(task_filter, found, tags_by_join=False)
    branches = [select(_c.task_id).where(*conditions) for conditions in by_rows]
    counted = branches[0] if len(branches) == 1 else union_all(*branches)
    return select(func.count()).select_from(counted.subquery())


def newest(task_filter: TaskFilter, limit: int, found: Condition | None = None, *, status: bool = True) -> Select[Any]:
    """Return the statement for creation (`at_ms`) and `status` of the `limit` newest tasks; `found` as in `page`.

    Without `status` it reads nothing but an index, where the filter has only what is in one.
    """
    branches = [
        _branch(conditions, task_filter, Sort.CREATED_DOWN, limit, None) for conditions in _branches(task_filter, found)
    ]
    if status:
        branches = [branch.add_columns(_c.status) for branch in branches]
    if len(branches) == 1:
        return branches[0]
    all_of = union_all(*(select(branch.subquery()) for branch in branches)).subquery()
    named = [all_of.c.at_ms, *([all_of.c.status] if status else [])]
    return select(*named).order_by(all_of.c.at_ms.desc()).limit(limit)


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
    conditions: list[Condition], task_filter: TaskFilter, sort: Sort, limit: int, after: Cursor | None
) -> Select[Any]:
    at, task_id = _c[_SORTED_BY[sort.by]], _c.task_id
    with_all = _tags_of(task_filter)
    if with_all and sort.by == "created_at":
        # By the table of tags, which is sorted by creation too.
        at, task_id = tags.c.created_ms, tags.c.task_id
    found = select(at.label("at_ms"), task_id.label("id")).where(*conditions)
    if with_all:
        found = found.select_from(tags.join(tasks, tags.c.task_id == _c.task_id)).where(tags.c.tag == with_all[0])
    if sort.by == "finished_at":
        found = found.where(_c.finished_ms.is_not(None))
    if after is not None:
        behind = tuple_(literal(after.at_ms), literal(after.task_id))
        found = found.where(tuple_(at, task_id) < behind if sort.descending else tuple_(at, task_id) > behind)
    order = (at.desc(), task_id.desc()) if sort.descending else (at, task_id)
    return found.order_by(*order).limit(limit)


def _branches(
    task_filter: TaskFilter, found: Condition | None, *, tags_by_join: bool = True
) -> Iterator[list[Condition]]:
    """Yield the conditions of each branch; a task is in at most one branch."""
    query = task_filter.query
    shared = [*_conditions(task_filter), *_conditions_of(query)]
    with_all = _tags_of(task_filter)
    shared += [_tagged((tag,)) for tag in (with_all[1:] if tags_by_join else with_all)]
    of_status = [[_c.status == status.stored] for status in task_filter.statuses] or [[]]
    of_column, rest = _alternatives(query, most=_MOST_BRANCHES // len(of_status))
    for conditions in product(of_status, of_column, _searches(query, found)):
        yield [*shared, *rest, *(condition for some in conditions for condition in some)]


def _conditions(task_filter: TaskFilter) -> Iterator[Condition]:
    for name in ("type", "queue", "user_id", "key", "definition_id", "workflow_id", "error_group"):
        if (value := getattr(task_filter, name)) is not None:
            yield _c[name] == _plain(value)
    for name in ("created", "finished"):
        after, before = getattr(task_filter, f"{name}_after"), getattr(task_filter, f"{name}_before")
        if after is not None:
            yield _c[f"{name}_ms"] >= ms_from_utc(after)
        if before is not None:
            yield _c[f"{name}_ms"] < ms_from_utc(before)


def _conditions_of(query: Query) -> Iterator[Condition]:
    """Yield the conditions of a query, except its words and the columns of which a task must have a value."""
    now = datetime.now(UTC)
    for term in query.terms:
        if term.field in _MOMENTS:
            column, ms = _c[_MOMENTS[term.field]], ms_from_utc(moment_of(term.values[0], now))
            yield column >= ms if term.field.endswith("after") else column < ms
        elif term.field == "tag":
            if term.negated or len(term.values) > 1:
                tagged = _tagged(term.values)
                yield ~tagged if term.negated else tagged
        elif term.field == "title":
            titled = or_(*map(_in_title, term.values))
            yield or_(_c.title.is_(None), ~titled) if term.negated else titled
        elif term.field == "id":
            of_id = or_(*(and_(*_beginning(_plain(value))) for value in term.values))
            yield ~of_id if term.negated else of_id
        elif term.negated and term.field:
            column = _c[_COLUMNS[term.field]]
            yield or_(column.is_(None), column.not_in(_stored(term)))


def _alternatives(query: Query, most: int) -> tuple[list[list[Condition]], list[Condition]]:
    """Return the columns of which a task must have a value: those of the first one as branches, and the others.

    A list of values that is not a branch is read along no index in order; so only more than `most` values are one.
    """
    terms = [term for term in query.terms if term.field in _COLUMNS and term.field != "status" and not term.negated]
    terms.sort(key=lambda term: len(term.values) > most)
    rest: list[Condition] = [_c[_COLUMNS[term.field]].in_(_stored(term)) for term in terms[1:]]
    if not terms:
        return [[]], rest
    first = terms[0]
    column = _c[_COLUMNS[first.field]]
    if len(first.values) > most:
        return [[column.in_(_stored(first))]], rest
    return [[column == value] for value in _stored(first)], rest


def _stored(term: Term) -> list[str]:
    if term.field == "status":
        return [value.upper() for value in term.values]
    return [_plain(value) for value in term.values]


def _tags_of(task_filter: TaskFilter) -> list[str]:
    """Return the tags of which a task must have all."""
    in_query = (term.values[0] for term in task_filter.query.of("tag") if len(term.values) == 1)
    return list(dict.fromkeys((*task_filter.tag, *map(_plain, in_query))))


def _tagged(values: tuple[str, ...]) -> Condition:
    tagged = tags.alias()
    return exists().where(tagged.c.tag.in_([_plain(value) for value in values]), tagged.c.task_id == _c.task_id)


def _searches(query: Query, found: Condition | None) -> list[list[Condition]]:
    """Return the conditions of a query's words, for each branch."""
    if found is not None:
        words = list(query.of(""))
        if len(words) != 1 or list(query.of("", negated=True)):
            return [[found]]
        of_id = and_(*_beginning(_plain(words[0].text)))
        return [[of_id], [found, ~of_id]]
    without = [or_(_c.error_message.is_(None), ~_in_error(term)) for term in query.of("", negated=True)]
    words = list(query.of(""))
    if not words:
        return [without]
    in_error = [_c.error_message.is_not(None), *map(_in_error, words), *without]
    if len(words) > 1:
        return [in_error]
    of_id = and_(*_beginning(_plain(words[0].text)))
    return [[of_id, *without], [*in_error, ~of_id]]


def _in_error(term: Term) -> Condition:
    return func.lower(_c.error_message).contains(_plain(term.text).lower(), autoescape=True)


def _in_title(text: str) -> Condition:
    return func.lower(_c.title).contains(_plain(text).lower(), autoescape=True)


def _beginning(prefix: str) -> tuple[Condition, Condition]:
    return _c.task_id >= prefix, _c.task_id < prefix + "\U0010ffff"


def _plain(text: str) -> str:
    return text.replace("\x00", "\ufffd")
