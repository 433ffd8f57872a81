"""How long a run of the tests takes, said beforehand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.kit.costs import Cost, announcement, foretold_s, save, saved_costs

COSTS = {"a.py": Cost(100, 150), "b.py": Cost(20, 30), "c.py": Cost(0, 200)}


@pytest.mark.parametrize(
    ("files", "processes", "seconds"),
    [
        (["a.py", "b.py"], 1, 180),  # the clock
        (["a.py", "b.py"], 2, 150),  # the longest file
        (["a.py", "b.py", "c.py"], 2, 200),
        (["b.py"], 8, 30),
        (["new.py"], 1, 0),  # nothing is known
        (["b.py", "new.py"], 1, 60),
    ],
)
def test_the_clock_the_processors_or_the_longest_file_say_how_long_it_takes(
    files: list[str], processes: int, seconds: float
) -> None:
    tests = Counter(dict.fromkeys(files, 10))
    assert foretold_s(COSTS, tests, processes=processes, cpus=2) == seconds


def test_a_run_says_beforehand_how_long_it_takes() -> None:
    tests = [f"a.py::test_{number}" for number in range(1500)]
    assert announcement(COSTS, tests, processes=3, cpus=2) == (
        "1,500 tests: about 2 minutes with 3 processes on 2 CPUs"
    )
    assert announcement(COSTS, ["b.py::test"], processes=1, cpus=2) == (
        "1 test: about 30 seconds with 1 process on 2 CPUs"
    )
    assert announcement({}, tests, processes=1, cpus=2) == "1,500 tests"


def test_what_ran_is_written_down_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tests" / "costs.json"
    path.parent.mkdir()
    for name in ("tests/a.py", "tests/b.py"):
        (tmp_path / name).touch()
    save({"tests/a.py": Cost(1.04, 2), "tests/b.py": Cost(3, 4), "tests/gone.py": Cost(5, 6)}, path)
    save({"tests/b.py": Cost(7, 8)}, path)
    assert saved_costs(path) == {"tests/a.py": Cost(1.0, 2.0), "tests/b.py": Cost(7.0, 8.0)}
