"""The query language of the search box: the server's parser and the one of the pages, by one table of examples."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.errors import InvalidSubmissionError
from celeriac.model import Status
from celeriac.task_filter import read_filter
from celeriac.task_query import FIELDS, Query, QueryError, Term, parse_query, phrase_of, tokens_of
from celeriac.tasks.types.bulk import BulkPayload
from tests.kit.pages.page_modules import STATIC
from tests.kit.queries import EXAMPLES
from tests.kit.remote.node_packages import node

PROGRAM = Path(__file__).parents[1] / "kit/pages/query_program.mjs"


def example(term: Term) -> list[str]:
    """Return a term as the examples write it."""
    name = term.field or ("exact" if term.exact else "")
    return [f"{'-' if term.negated else ''}{name}", *term.values]


@pytest.mark.parametrize("one", EXAMPLES["read"], ids=lambda one: one["text"])
def test_a_query_is_read_and_written(one: dict[str, Any]) -> None:
    query = parse_query(one["text"])
    assert [example(term) for term in query.terms] == one["terms"]
    assert query.written() == one.get("written", one["text"])
    assert parse_query(query.written()) == query


@pytest.mark.parametrize("one", EXAMPLES["refused"], ids=lambda one: one["text"])
def test_what_is_not_a_query_is_refused_with_what_to_do(one: dict[str, Any]) -> None:
    with pytest.raises(InvalidSubmissionError) as caught:
        read_filter({"q": one["text"]})
    (violation,) = caught.value.violations
    assert violation.field == "filter.q"
    assert one["says"] in violation.message


@pytest.mark.parametrize("one", EXAMPLES["tokens"], ids=lambda one: one["text"])
def test_texts_are_split_into_words(one: dict[str, Any]) -> None:
    assert tokens_of(one["text"]) == one["tokens"]


def test_the_pages_read_queries_as_the_server_does(tmp_path: Path) -> None:
    for path in (STATIC / "query.js", PROGRAM):
        shutil.copy(path, tmp_path)
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    read, refused = ([one["text"] for one in EXAMPLES[name]] for name in ("read", "refused"))
    question = {
        "texts": [*read, *refused],
        "tokens": [one["text"] for one in EXAMPLES["tokens"]],
        "matches": [one["text"] for one in EXAMPLES["matches"]],
        "task": {**EXAMPLES["task"], "payload": None},
    }
    program = [node(), str(tmp_path / PROGRAM.name)]
    done = subprocess.run(program, input=json.dumps(question), capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    for text, terms, written in zip(question["texts"], answer["terms"], answer["written"], strict=True):
        if text in refused:
            assert terms is None, text
            continue
        found = [Term(term["field"], tuple(term["values"]), term["negated"], term["exact"]) for term in terms]
        query = parse_query(text)
        assert Query(tuple(found)) == query
        assert written == query.written()
    assert answer["tokens"] == [one["tokens"] for one in EXAMPLES["tokens"]]
    assert answer["matches"] == [one["match"] for one in EXAMPLES["matches"]]


PIECES = st.sampled_from(
    [*FIELDS, ":", ",", '"', "\\", "-", " ", "a", "B7", "订单", "failed", "24h", "2026-11-01", "/"]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=20).map("".join)))
def test_any_text_is_read_or_refused_and_what_was_read_is_written_so_that_it_is_read_alike(text: str) -> None:
    try:
        query = parse_query(text)
    except QueryError as exc:
        assert str(exc)
        return
    assert parse_query(query.written()) == query
    for term in query.of(""):
        assert term.phrase.tokens


@given(st.text(alphabet="ab 订单失败x-", max_size=20), st.integers(0, 20), st.integers(1, 8))
def test_each_part_of_a_text_is_found_in_it(text: str, start: int, length: int) -> None:
    part = text[start : start + length]
    if all(beside in ("a", "b", "x") for beside in (text[start - 1 : start], part[:1])):
        return  # it begins within a word
    phrase, tokens = phrase_of(part, exact=False), tokens_of(text)
    if not phrase.tokens:
        return

    def stands_at(place: int) -> bool:
        there = tokens[place : place + len(phrase.tokens)]
        if len(there) < len(phrase.tokens) or there[:-1] != list(phrase.tokens[:-1]):
            return False
        last = phrase.tokens[-1]
        return there[-1].startswith(last) if phrase.prefix else there[-1] == last

    assert any(stands_at(place) for place in range(len(tokens)))


def test_durations_before_now_can_be_fixed() -> None:
    now = datetime(2030, 1, 31, 8, tzinfo=UTC)
    fixed = parse_query("after:24h before:2030-01-31 word -type:x").at(now).written()
    assert fixed == "after:2030-01-30T08:00:00.000Z before:2030-01-31T00:00:00.000Z word -type:x"


def test_the_statuses_of_parameter_and_query_are_combined() -> None:
    assert read_filter({"q": "status:failed,pending"}).statuses == (Status.FAILED, Status.PENDING)
    assert read_filter({"q": "status:failed,pending", "status": "failed"}).statuses == (Status.FAILED,)
    assert read_filter({"q": "x", "status": "failed"}).statuses == (Status.FAILED,)
    with pytest.raises(InvalidSubmissionError, match="no task has both"):
        read_filter({"q": "status:pending", "status": "failed"})


def test_a_bulk_operation_takes_its_statuses_from_the_query_too() -> None:
    def targets(action: str, q: str) -> set[str]:
        payload = BulkPayload.model_validate({"action": action, "filter": {"q": q}})
        return {status.wire for status in payload.targets.status}

    assert targets("retry", "status:cancelled") == {"cancelled"}
    assert targets("cancel", "type:x") == {"waiting", "scheduled", "pending", "processing", "retrying"}
    assert targets("cancel", "status:pending,completed") == {"pending"}
