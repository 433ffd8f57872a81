"""The query language of the search box: `type:report status:failed,retrying key:7 -tag:nightly "exact words" word`.

    query    = term, { space, term }                    (every term must hold)
    term     = [ "-" ], ( field | words )               ("-": the task must not match the rest of the term)
    field    = name, ":", value, { ",", value }         (one of the values; no space after the colon)
    value    = quoted | characters without space and comma
    words    = quoted | characters without space
    quoted   = '"', { character | '\\"' | '\\\\' }, '"'   (the end of the text closes an open quotation mark, too)
    name     = one of `FIELDS`, or another name of one, in any case

A name is letters and `_`. What has a colon and does not look so is a word: `12:30`, `http://host`, `timeout: 5s` (here
`timeout:` and `5s`). To search for a text that looks like a field, put it in quotation marks: `"order:7"`.

A title matches if it has the value somewhere, in upper or lower case; all other fields match as a whole.

A plain word matches the beginning of a word, or of an id; words in quotation marks match exactly these words, one after
the other. Upper and lower case are the same. Moments are a duration before now (`24h`, `7d`), a day (`2026-11-01`, from
its beginning in UTC), or RFC 3339.

`static/query.js` of the pages reads the same language. Both are tested with `tests/kit/queries/examples.json`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from celeriac.durations import parse_duration_s
from celeriac.model import Status, rfc3339
from celeriac.moments import bounded
from celeriac.violations import no_such, shown

#: Most terms, and most values of all terms, that one query may have.
MAX_TERMS: Final = 20
MAX_VALUES: Final = 50
#: Characters of a word that count; the rest of a longer one is not looked at.
WORD_CHARACTERS: Final = 64

#: Each field, and its other names: those of the parameters of a list.
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "status": (),
    "type": (),
    "title": (),
    "key": (),
    "user": ("user_id",),
    "tag": ("tags",),
    "group": ("queue",),
    "workflow": ("workflow_id",),
    "definition": ("definition_id",),
    "error": ("error_code",),
    "id": ("task_id",),
    "after": ("created_after",),
    "before": ("created_before",),
    "finished_after": (),
    "finished_before": (),
}
MOMENTS: Final = ("after", "before", "finished_after", "finished_before")
_NAMES: Final = {name: field for field, others in FIELDS.items() for name in (field, *others)}

_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z_]*):(?!//)(?=\S)")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?\Z)', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_VALUE: Final = re.compile(r"[^\s,]+")
_WORD: Final = re.compile(r"\S+")
_SPACE: Final = re.compile(r"\s*")
#: What may be written as a value or word without quotation marks and is read as it was.
_PLAIN_VALUE: Final = re.compile(r'[^\s,"][^\s,]*')
_PLAIN_WORD: Final = re.compile(r'[^\s"]\S*')
_DURATION: Final = re.compile(r"[0-9.]+[a-z][0-9.a-z]*")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

#: Characters of scripts that put no space between words.
_UNSPACED: Final = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_RUN: Final = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
#: The same for texts without other letters, which most are.
_ASCII_RUN: Final = re.compile("[a-z0-9]+")
_FIRST_UNSPACED: Final = re.compile(rf"[{_UNSPACED}]")


class QueryError(ValueError):
    """A text is not a query; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words in the form in which they are searched: tokens that follow each other.

    With `prefix` the last one is the beginning of a token.
    """

    tokens: tuple[str, ...]
    prefix: bool


@dataclass(frozen=True, slots=True)
class Term:
    """A condition. `field` is empty for words; their text is then the only value, `exact` if it was quoted."""

    field: str
    values: tuple[str, ...]
    negated: bool = False
    exact: bool = False

    @property
    def text(self) -> str:
        """The words of a term that is not about a field."""
        return self.values[0]

    @property
    def phrase(self) -> Phrase:
        """The words as they are searched."""
        return phrase_of(self.text, exact=self.exact)

    def written(self) -> str:
        """Return the term as text."""
        sign = "-" if self.negated else ""
        if not self.field:
            plain = not self.exact and _PLAIN_WORD.fullmatch(self.text) and not _FIELD.match(self.text)
            return sign + (self.text if plain else _quoted(self.text))
        values = (value if _PLAIN_VALUE.fullmatch(value) else _quoted(value) for value in self.values)
        return f"{sign}{self.field}:{','.join(values)}"


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions that must all hold."""

    terms: tuple[Term, ...] = ()

    def written(self) -> str:
        """Return the query as text, which is read as the same query again."""
        return " ".join(term.written() for term in self.terms)

    def of(self, field: str, *, negated: bool = False) -> Iterator[Term]:
        """Yield the terms about a field; with an empty name those that are words."""
        return (term for term in self.terms if term.field == field and term.negated == negated)

    def values(self, field: str) -> tuple[str, ...] | None:
        """Return the values of which a task must have one; None without a condition about the field."""
        return next((term.values for term in self.of(field)), None)

    def at(self, now: datetime) -> Query:
        """Return the query with moments in place of durations before now."""
        return Query(
            tuple(
                Term(term.field, (rfc3339(moment_of(term.values[0], now)),), term.negated)
                if term.field in MOMENTS
                else term
                for term in self.terms
            )
        )


@lru_cache(maxsize=1024)
def parse_query(text: str) -> Query:
    """Read a query; raises `QueryError`."""
    terms: list[Term] = []
    place = _space_after(text, 0)
    while place < len(text):
        if len(terms) == MAX_TERMS:
            raise QueryError(f"a query has at most {MAX_TERMS} terms")
        term, place = _term(text, place)
        if not term.negated and term.field and term.field != "tag":
            _check_alone(term, terms)
        terms.append(term)
        place = _space_after(text, place)
    if sum(len(term.values) for term in terms) > MAX_VALUES:
        raise QueryError(f"a query has at most {MAX_VALUES} values")
    return Query(tuple(terms))


def moment_of(text: str, now: datetime) -> datetime:
    """Return the moment that a value of `after:` and the like means; raises `QueryError`."""
    try:
        if _DURATION.fullmatch(text):
            return bounded(now - timedelta(seconds=parse_duration_s(text)))
        if _DAY.fullmatch(text):
            return bounded(datetime.fromisoformat(text).replace(tzinfo=UTC))
        if _DAY.match(text):
            return bounded(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError):
        pass
    raise QueryError(
        f"{shown(text)!r} is not a moment: write a duration before now (24h), a day (2030-01-31) or a moment with a "
        "time zone (2030-01-31T08:00:00Z), from 1970 to 2999"
    )


def tokens_of(text: str) -> list[str]:
    """Return the words of a text in the form in which they are indexed, in order.

    Letters and digits make words, in lower case. Chinese, Japanese and Korean have no spaces that could be relied on:
    there each character with the next one makes a word, and the last one of a run is one by itself. So each sequence
    of characters is found as a sequence of words.
    """
    if text.isascii():
        return [run[:WORD_CHARACTERS] for run in _ASCII_RUN.findall(text.lower())]
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text).lower()):
        if _FIRST_UNSPACED.match(run):
            found += [run[i : i + 2] for i in range(len(run))]
        else:
            found.append(run[:WORD_CHARACTERS])
    return found


def phrase_of(text: str, *, exact: bool) -> Phrase:
    """Return what finds a text among the words of `tokens_of`; without a letter or digit it has no tokens."""
    tokens = tokens_of(text)
    if not tokens or not _FIRST_UNSPACED.match(tokens[-1]):
        return Phrase(tuple(tokens), prefix=not exact)
    if len(tokens) > 1 and len(tokens[-2]) == 2 and tokens[-2][1] == tokens[-1] and _FIRST_UNSPACED.match(tokens[-2]):
        # The run may go on in the text that is searched.
        return Phrase(tuple(tokens[:-1]), prefix=False)
    return Phrase(tuple(tokens), prefix=True)


def _term(text: str, place: int) -> tuple[Term, int]:
    negated = text[place] == "-" and not text[place + 1 : place + 2].isspace() and place + 1 < len(text)
    place += negated
    if (field := _FIELD.match(text, place)) is not None:
        name = _NAMES.get(field[1].lower())
        if name is None:
            raise QueryError(
                f"{shown(field[1])}: {no_such('field', field[1].lower(), FIELDS)} "
                "(to search for these words, put them in quotation marks)"
            )
        values, place = _values(text, field.end())
        return Term(name, _checked(name, values, negated=negated), negated), place
    quoted = _QUOTED.match(text, place)
    found = quoted or _WORD.match(text, place)
    assert found is not None
    term = Term("", (_unescaped(quoted[1]) if quoted else found[0],), negated, exact=quoted is not None)
    if not term.phrase.tokens:
        raise QueryError(f"{shown(term.text)!r} has no letter and no digit to search for")
    return term, found.end()


def _values(text: str, place: int) -> tuple[list[str], int]:
    values = []
    while True:
        quoted = _QUOTED.match(text, place)
        found = quoted or _VALUE.match(text, place)
        value = "" if found is None else _unescaped(quoted[1]) if quoted else found[0]
        if not value:
            raise QueryError(f"a value is missing at {shown(text[:place][-40:])!r}: write for example type:a,b")
        values.append(value)
        assert found is not None
        place = found.end()
        if text[place : place + 1] != ",":
            return values, place
        place += 1


def _checked(name: str, values: list[str], *, negated: bool) -> tuple[str, ...]:
    if name == "status":
        values = [value.lower() for value in values]
        known = [status.wire for status in Status]
        for value in values:
            if value not in known:
                raise QueryError(f"status:{shown(value)}: {no_such('status', value, known)}")
    if name in MOMENTS:
        if negated or len(values) > 1:
            raise QueryError(f"{name}: takes one moment, without `-`")
        moment_of(values[0], datetime.now(UTC))
    return tuple(dict.fromkeys(values))


def _check_alone(term: Term, terms: list[Term]) -> None:
    if any(other.field == term.field and not other.negated for other in terms):
        if term.field in MOMENTS:
            raise QueryError(f"{term.field}: is there twice")
        raise QueryError(
            f"{term.field}: is there twice, and a task has one; write {term.field}:a,b to find those with either"
        )


def _space_after(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None
    return found.end()


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
