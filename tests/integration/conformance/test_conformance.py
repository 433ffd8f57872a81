"""One project, one script of probes: what it sees on stock Celery, it sees here, but for a table of differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.kit.conformance.differences import DIFFERENCES, reason_of
from tests.kit.conformance.sides import SIDES, STOCK, Side, outcomes_of, topics

#: Starting all sides and running all probes belongs to the first test.
pytestmark = pytest.mark.timeout(600)
PROBES = [name for names in topics().values() for name in names]

Outcomes = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """The outcomes of all probes, by side and name; all sides run at the same time."""
    folder = tmp_path_factory.mktemp("conformance")
    sides = (STOCK, *SIDES)
    with ThreadPoolExecutor(len(sides)) as pool:
        found = pool.map(lambda side: outcomes_of(side, folder / side.name), sides)
        return dict(zip((side.name for side in sides), found, strict=True))


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)
def test_a_project_sees_what_it_sees_on_stock_celery(outcomes: Outcomes, side: Side, name: str) -> None:
    stock, here = outcomes[STOCK.name][name], outcomes[side.name][name]
    said = f"\nstock Celery: {json.dumps(stock)}\n{side.title}: {json.dumps(here)}"
    if reason_of(side.name, name) is None:
        assert here == stock, said
    else:
        assert here != stock, f"{name} is the same by now: take it out of tests/kit/conformance/differences.py{said}"


def test_the_differences_name_probes_and_sides_that_exist() -> None:
    named = [name for difference in DIFFERENCES for names in difference.probes.values() for name in names]
    assert set(named) <= set(PROBES)
    assert {side for difference in DIFFERENCES for side in difference.probes} <= {side.name for side in SIDES}
    for side in SIDES:
        listed = [name for difference in DIFFERENCES for name in difference.probes.get(side.name, ())]
        assert len(listed) == len(set(listed)), f"{side.name}: a probe has two reasons"
