"""What a rule says of an app: one sentence on one subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """Whether a part of an app works after `adopt`."""

    AS_IT_IS = "as it is"  #: it works as before
    DIFFERENT = "different"  #: it works, in another way that the sentence describes
    NOT_POSSIBLE = "not possible"  #: `adopt` refuses the app, and the sentence says what to change


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on a part of an app. The sentence says what happens, and what to do if there is something to do."""

    verdict: Verdict
    #: The setting, or what else the sentence is about.
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Examined:
    """An app that the rules look at."""

    #: A Celery app that is configured.
    app: Any
    #: The store that the project names for the records (`redis_url` of `adopt`, or REDIS_URL); None if it names none.
    redis_url: str | None = None
    #: The prefix of the store's keys.
    key_prefix: str = ""


Rule = Callable[[Examined], Iterable[Finding]]


def as_it_is(subject: str, sentence: str) -> Finding:
    """Return a finding on what works as before."""
    return Finding(Verdict.AS_IT_IS, subject, sentence)


def different(subject: str, sentence: str) -> Finding:
    """Return a finding on what works in another way."""
    return Finding(Verdict.DIFFERENT, subject, sentence)


def not_possible(subject: str, sentence: str) -> Finding:
    """Return a finding on what `adopt` refuses."""
    return Finding(Verdict.NOT_POSSIBLE, subject, sentence)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names in one text, at most this many of them and how many more there are."""
    found = sorted(names)
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")
