"""Rules: what tasks of a group, a type, a key or a user are limited to across all workers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from celeriac.errors import InvalidSubmissionError, Violation

#: Highest limit of tasks that run at once: of a group, and of a rule.
MAX_RUNNING: Final = 1_000_000
MAX_RULE_RUNNING: Final = 100_000
#: Highest limit of waiting tasks of one key.
MAX_WAITING: Final = 10_000_000
#: At most this many rules cover a task.
MOST_OF_A_TASK: Final = 4
#: Longest name of a rule, longest name of a group and of a type that it covers, and longest key (characters).
MAX_NAME: Final = 128
_MAX_GROUP: Final = 128
_MAX_TYPE: Final = 200
MAX_KEY: Final = 128
#: Longest note of a rule (characters).
MAX_NOTE: Final = 2000
#: Highest cost of a task.
MAX_COST: Final = 10_000
#: The names of the rules that are limits of groups begin with this.
GROUP_PREFIX: Final = "group:"
#: Since when a rule holds that has not been set.
NEVER: Final = datetime.fromtimestamp(0, UTC)
#: A name that can stand in a path.
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/\\?#%]+")
#: The periods of a rate, by the letter that stands for them (ms).
_PERIODS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: Starts per second above which a rate is not worth its name; the store counts in 1/1024 ms.
_MOST_PER_S: Final = 10_000
_RATE: Final = re.compile(r"([0-9]{1,9})/([smhd])")


@dataclass(frozen=True, slots=True)
class StartRate:
    """At most `starts` starts within any `per_ms` milliseconds."""

    starts: int
    per_ms: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `5/s`, `100/m`, `10/h` or `1/d`; raises `ValueError` that says what is wrong."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            raise ValueError("is not a rate: write a number and a period, as in 5/s, 100/m, 10/h or 1/d")
        rate = cls(int(found[1]), _PERIODS_MS[found[2]])
        if rate.starts == 0:
            raise ValueError("lets nothing start: pause the group instead")
        if rate.starts * 1000 > _MOST_PER_S * rate.per_ms:
            raise ValueError(f"is too high: at most {_MOST_PER_S} a second")
        return rate

    def __str__(self) -> str:
        letter = next(letter for letter, ms in _PERIODS_MS.items() if ms == self.per_ms)
        return f"{self.starts}/{letter}"


def check_limits(max_running: int | None, rate: StartRate | None) -> None:
    """Raise `InvalidSubmissionError` if neither limit is given, or `max_running` is out of range."""
    if max_running is None and rate is None:
        raise InvalidSubmissionError([Violation("max_running", "give max_running, rate or both")])
    if max_running is not None and not 1 <= max_running <= MAX_RUNNING:
        raise InvalidSubmissionError([Violation("max_running", f"must be between 1 and {MAX_RUNNING}")])


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a group, since when, and the operator's note; None means without a limit of this kind."""

    max_running: int | None
    rate: StartRate | None
    at: datetime
    note: str = ""


class By(StrEnum):
    """What a rule counts separately."""

    ALL = "all"
    KEY = "key"
    USER = "user"


class SortKeys(StrEnum):
    """What the keys of a rule are sorted by; the largest comes first."""

    WAITING = "waiting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class LimitRule:
    """What the tasks of a group, of a type, or of a type within a group are limited to.

    It counts all of them together, or separately by their key or user; a task without one is not covered then. None
    means without a limit of this kind. `fair`: keys take turns. `ordered`: at most one task of a key runs, in the order
    of their submission, and holds its key until it has ended. `at` is since when it holds.
    """

    name: str
    group: str | None = None
    type: str | None = None
    by: By = By.ALL
    max_running: int | None = None
    rate: StartRate | None = None
    fair: bool = False
    ordered: bool = False
    max_waiting: int | None = None
    note: str = ""
    at: datetime = NEVER

    @property
    def of_group(self) -> bool:
        """Whether it is the limits of a group."""
        return self.group is not None and self.name == group_rule(self.group)


@dataclass(frozen=True, slots=True)
class KeyCount:
    """How many tasks of a key (or user) wait and run under a rule; the key is None where the rule counts all."""

    key: str | None
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule, and of the tasks that it covers: how many wait, run, and are held back by it (`parked`)."""

    rule: LimitRule
    waiting: int
    running: int
    parked: int


def group_rule(group: str) -> str:
    """Return the name of the rule that is the limits of a group."""
    return GROUP_PREFIX + group


def check_rule(rule: LimitRule) -> None:
    """Raise `InvalidSubmissionError` that names every field which cannot be so."""
    violations = list(_violations(rule))
    if violations:
        raise InvalidSubmissionError(violations)


def check_key(key: str) -> None:
    """Raise `ValueError` if a text cannot be a key: 1 to 128 printable characters."""
    if not 1 <= len(key) <= MAX_KEY:
        raise ValueError(f"has {len(key)} characters: a key has 1 to {MAX_KEY}")
    if not key.isprintable():
        raise ValueError("has a character that cannot be printed: a key has none")


def _violations(rule: LimitRule) -> Iterator[Violation]:
    if not rule.of_group and (not 1 <= len(rule.name) <= MAX_NAME or not _NAME.fullmatch(rule.name)):
        yield Violation("name", f"must have 1 to {MAX_NAME} characters, without / \\ ? # % and control characters")
    if rule.group is None and rule.type is None:
        yield Violation("group", "give group, type or both: which tasks the rule covers")
    for field, text, longest in (("group", rule.group, _MAX_GROUP), ("type", rule.type, _MAX_TYPE)):
        if text is not None and not (1 <= len(text) <= longest and text.isprintable()):
            yield Violation(field, f"must have 1 to {longest} printable characters")
    if rule.name.startswith(GROUP_PREFIX) and not (rule.of_group and rule.type is None and rule.by is By.ALL):
        message = f"a rule of this name is the limits of a group: choose a name that does not begin with {GROUP_PREFIX}"
        yield Violation("name", message)
    if (rule.max_running, rule.rate, rule.max_waiting) == (None, None, None) and not rule.fair and not rule.ordered:
        yield Violation("max_running", "give at least one of max_running, rate, fair, ordered and max_waiting")
    most = MAX_RUNNING if rule.of_group else MAX_RULE_RUNNING
    if rule.max_running is not None and not 1 <= rule.max_running <= most:
        yield Violation("max_running", f"must be between 1 and {most}")
    if rule.max_waiting is not None and not 1 <= rule.max_waiting <= MAX_WAITING:
        yield Violation("max_waiting", f"must be between 1 and {MAX_WAITING}")
    if rule.by is By.ALL:
        for name in ("fair", "ordered", "max_waiting"):
            if getattr(rule, name):
                yield Violation(name, 'needs by: "key" or by: "user"')
    if rule.fair and rule.group is None:
        yield Violation("fair", "needs a group: keys take turns in a group")
    if len(rule.note) > MAX_NOTE:
        yield Violation("note", f"has {len(rule.note)} characters, above the limit of {MAX_NOTE}")
