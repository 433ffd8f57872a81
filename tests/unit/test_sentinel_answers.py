"""Which Sentinel to believe when they disagree."""

from __future__ import annotations

from itertools import permutations

import pytest

from celeriac.store.server.sentinels import SentinelAnswer, newest

OLD, NEW = ("old", 6379), ("new", 6379)
BEFORE, LEADS, AFTER = SentinelAnswer(4, False, OLD), SentinelAnswer(4, True, NEW), SentinelAnswer(5, False, NEW)


def test_the_newest_configuration_counts_in_any_order() -> None:
    for answers in permutations([BEFORE, LEADS, AFTER]):
        assert newest(None, answers, asked=3, age_s=0) == AFTER
    assert newest(BEFORE, [BEFORE, LEADS], asked=3, age_s=0) == LEADS, "who leads the failover knows it first"


@pytest.mark.parametrize("known", [LEADS, AFTER])
@pytest.mark.parametrize(
    ("answers", "age_s", "believed"),
    [
        ([BEFORE], 60, NEW),  # one of three, perhaps cut off
        ([BEFORE, BEFORE], 1, NEW),  # they will hear of it
        ([BEFORE, BEFORE], 60, OLD),  # the failover came to nothing, or all are set up anew
        ([BEFORE, AFTER], 60, NEW),
    ],
)
def test_older_answers_count_only_when_most_insist(
    known: SentinelAnswer, answers: list[SentinelAnswer], age_s: float, believed: tuple[str, int]
) -> None:
    assert newest(known, answers, asked=3, age_s=age_s).place == believed


def test_the_only_sentinel_is_believed() -> None:
    assert newest(None, [BEFORE], asked=1, age_s=0) == BEFORE
    assert newest(BEFORE, [AFTER], asked=1, age_s=0) == AFTER
