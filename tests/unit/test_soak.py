"""What the slow soak counts with: it would otherwise be wrong for an hour before somebody saw it."""

from __future__ import annotations

import pytest

from tests.kit.soak.key_owners import unknown_functions
from tests.kit.soak.leaks import Growth
from tests.kit.soak.records import Timeline


def test_the_soak_knows_the_owner_of_each_kind_of_key() -> None:
    assert unknown_functions() == set()


@pytest.mark.parametrize(
    ("statuses", "ends", "moved"),
    [
        ("PENDING PROCESSING COMPLETED", 1, False),
        ("SCHEDULED PENDING PROCESSING PENDING PROCESSING FAILED PENDING PROCESSING COMPLETED", 2, False),
        ("PENDING PROCESSING COMPLETED COMPLETED", 2, True),
        ("PENDING CANCELLED PROCESSING", 1, True),
    ],
)
def test_a_timeline_tells_what_came_after_an_end(statuses: str, ends: int, moved: bool) -> None:
    timeline = Timeline([(status, 1, "") for status in statuses.split()])
    assert (timeline.ends, timeline.moved_after_an_end) == (ends, moved)


def test_a_process_leaks_if_it_grew_by_more_than_chance() -> None:
    steady = Growth("api-1", 10, (100, 110), (40, 44), (10, 12))
    assert not steady.leaks
    assert Growth("api-1", 10, (100, 200), (40, 40), (10, 10)).leaks
    assert Growth("api-1", 10, (100, 100), (40, 90), (10, 10)).leaks
    assert Growth("api-1", 10, (100, 100), (40, 40), (10, 40)).leaks
