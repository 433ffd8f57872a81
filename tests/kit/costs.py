"""What tests cost: the CPU time of each file, its processes included, and the programs that it starts.

`pytest --costs` prints it. Wall-clock time says little on a machine that does other things as well.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_COST = "cost"
_SHOWN = 40


def cpu_s() -> float:
    """Return the CPU seconds of this process, and of its processes that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Costs:
    """Measures each test where it runs, and sums up where the results arrive."""

    def __init__(self) -> None:
        self._started: list[str] = []
        self._of_tests: dict[str, float] = defaultdict(float)
        self._of_files: dict[str, float] = defaultdict(float)
        self._programs: dict[str, Counter[str]] = defaultdict(Counter)
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            command = [str(word) for word in arguments[1]]
            words = [word for word in command[1:4] if word != "-m"]
            program = Path(command[0]).name
            self._started.append(f"{program} {words[0][:20]}".strip() if program.startswith("python") else program)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._started.clear()
        before = cpu_s()
        measured: dict[str, Any] = {}
        item.user_properties.append((_COST, measured))
        item.stash[_BEFORE] = before
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        # The test as a whole: what its fixtures cost is known after the last of its three reports only.
        measured = dict(item.user_properties)[_COST]
        measured["cpu_s"] = cpu_s() - item.stash[_BEFORE]
        measured["programs"] = list(self._started)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        measured = dict(report.user_properties)[_COST]
        file = report.nodeid.partition("::")[0]
        self._of_tests[report.nodeid] += measured["cpu_s"]
        self._of_files[file] += measured["cpu_s"]
        self._programs[file].update(measured["programs"])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("CPU seconds")
        for name, seconds in sorted(self._of_tests.items(), key=lambda pair: -pair[1])[:_SHOWN]:
            terminalreporter.write_line(f"{seconds:7.2f}  {name}")
        terminalreporter.section("CPU seconds of files, and what they start")
        for name, seconds in sorted(self._of_files.items(), key=lambda pair: -pair[1]):
            programs = ", ".join(f"{number} x {program}" for program, number in self._programs[name].most_common())
            terminalreporter.write_line(f"{seconds:7.2f}  {name}  {programs}")
        terminalreporter.write_line(f"{sum(self._of_files.values()):7.2f}  in all")


_BEFORE = pytest.StashKey[float]()
