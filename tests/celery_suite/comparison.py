"""What differs from stock Celery, what of it is expected, and the table of it."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.celery_suite.running import Ended

#: The ends of all tests of one kind of app, by the test's id without its folder (`test_canvas.py::test_chain::...`).
Ends = Mapping[str, Ended]

_EXPECTED = Path(__file__).with_name("expected.toml")
_IN_ORDER = ("passed", "failed", "skipped", "xfailed")


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that ends otherwise than with the stock app."""

    test: str
    stock: str
    here: str
    why: str
    expected: str


def expected_differences(app: str) -> dict[str, str]:
    """Return why tests may differ with a kind of app, by their ids."""
    listed: dict[str, dict[str, str]] = tomllib.loads(_EXPECTED.read_text())
    return listed.get(app, {})


def left_out() -> dict[str, str]:
    """Return why files do not run at all, by their names."""
    return expected_differences("left_out")


def differences(stock: Ends, here: Ends, expected: Mapping[str, str]) -> list[Difference]:
    """Return the tests that pass on stock Celery (or fail there as Celery expects), and do otherwise here."""
    return [
        Difference(test, end.outcome, here[test].outcome, here[test].why, expected.get(test, ""))
        for test, end in stock.items()
        if end.outcome in ("passed", "xfailed") and test in here and here[test].outcome != end.outcome
    ]


def stale(stock: Ends, here: Ends, expected: Mapping[str, str]) -> list[str]:
    """Return the expected differences that are none: the tests ran, and ended as on stock Celery."""
    found = {difference.test for difference in differences(stock, here, expected)}
    return [test for test in expected if test in stock and test in here and test not in found]


def table(results: Mapping[str, Ends]) -> str:
    """Return the numbers of each file and each kind of app as a Markdown table."""
    names = list(results)
    files = list(dict.fromkeys(_file(test) for ends in results.values() for test in ends))
    rows = [["file", "tests", *names]]
    for file in files:
        by_app = [[end for test, end in results[name].items() if _file(test) == file] for name in names]
        rows.append([file, str(max(map(len, by_app))), *(_counted(ends) for ends in by_app)])
    if len(files) > 1:
        every = [list(ends.values()) for ends in results.values()]
        rows.append(["all", str(max(map(len, every))), *(_counted(ends) for ends in every)])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _file(test: str) -> str:
    return test.partition("::")[0].removesuffix(".py")


def _counted(ends: Sequence[Ended]) -> str:
    counts = Counter(end.outcome for end in ends)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in _IN_ORDER if counts[outcome]) or "not run"
