"""What tests cost, measured and foretold: CPU time with that of their processes, seconds, programs that they start.

A run says beforehand about how long it takes, from what each file cost when that was last written down, and begins with
the files that take longest, so that no process is left with one of them at the end. `pytest --costs` prints what was
used; `pytest --save-costs` writes it down as well, for the files that ran.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Where costs are written down: seconds of CPU and of the clock, by file.
SAVED = Path(__file__).parents[1] / "costs.json"
_COST = "cost"
_SHOWN = 40
_BEGINNING = pytest.StashKey[tuple[float, float]]()


@dataclass(frozen=True)
class Cost:
    """What a file needs: CPU time of all its processes, and time."""

    cpu_s: float
    wall_s: float


def saved_costs(path: Path = SAVED) -> dict[str, Cost]:
    """Return what was written down."""
    if not path.exists():
        return {}
    return {name: Cost(*numbers) for name, numbers in json.loads(path.read_text()).items()}


def foretold_s(costs: dict[str, Cost], tests: Counter[str], *, processes: int, cpus: int) -> float:
    """Return how long these files take (file → number of its tests); unknown ones count as others do by the test."""
    known = [costs[file] for file in tests if file in costs]
    if not known:
        return 0.0
    missing = 1 + sum(n for file, n in tests.items() if file not in costs) / max(
        1, sum(n for file, n in tests.items() if file in costs)
    )
    cpu_s = sum(cost.cpu_s for cost in known) * missing
    wall_s = sum(cost.wall_s for cost in known) * missing
    return max(cpu_s / min(cpus, max(processes, 1)), wall_s / max(processes, 1), *(cost.wall_s for cost in known))


def announcement(costs: dict[str, Cost], tests: Collection[str], *, processes: int, cpus: int) -> str:
    """Return the sentence that a run begins with, from the ids of its tests."""
    files = Counter(name.partition("::")[0] for name in tests)
    seconds = foretold_s(costs, files, processes=processes, cpus=cpus)
    number = "1 test" if len(tests) == 1 else f"{len(tests):,} tests"
    if not seconds:
        return number
    time_text = f"{round(seconds / 60)} minutes" if seconds > 90 else f"{round(seconds)} seconds"
    at_once = "1 process" if processes < 2 else f"{processes} processes"
    return f"{number}: about {time_text} with {at_once} on {cpus} CPUs"


def longest_first(items: list[pytest.Item], costs: dict[str, Cost]) -> None:
    """Sort tests by what their file costs; the tests of a file stay in their order."""
    order = {name: number for number, name in enumerate(dict.fromkeys(file_of(item.nodeid) for item in items))}
    unknown = Cost(0.0, 0.0)
    items.sort(key=lambda item: (-costs.get(file_of(item.nodeid), unknown).wall_s, order[file_of(item.nodeid)]))


def file_of(nodeid: str) -> str:
    """Return the file of a test."""
    return nodeid.partition("::")[0]


def cpu_s() -> float:
    """Return the CPU seconds of this process, and of its processes that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Foretelling:
    """Says beforehand how long a run takes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._said = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say it where tests run in this process."""
        if not self._config.getoption("collectonly") and session.items:
            self._say([item.nodeid for item in session.items], processes=1)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Say it where other processes run them: they have the same ones, so once."""
        self._say(ids, processes=len(self._config.getoption("tx") or ()))

    def _say(self, tests: list[str], *, processes: int) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and not self._said:
            self._said = True
            reporter.write_line(announcement(saved_costs(), tests, processes=processes, cpus=os.cpu_count() or 1))


class Costs:
    """Measures each test where it runs, and sums up where the results arrive."""

    def __init__(self, *, save: bool) -> None:
        self._save = save
        self._started: list[str] = []
        self._of_tests: dict[str, float] = defaultdict(float)
        self._of_files: dict[str, Cost] = defaultdict(lambda: Cost(0.0, 0.0))
        self._programs: dict[str, Counter[str]] = defaultdict(Counter)
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            command = [os.fsdecode(word) for word in arguments[1]]
            words = [word for word in command[1:4] if word != "-m"]
            program = Path(command[0]).name
            self._started.append(f"{program} {words[0][:20]}".strip() if program.startswith("python") else program)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Remember how things were before."""
        self._started.clear()
        item.user_properties.append((_COST, {}))
        item.stash[_BEGINNING] = cpu_s(), time.monotonic()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Measure: what its fixtures cost is known after the last of its three reports only."""
        cpu, clock = item.stash[_BEGINNING]
        dict(item.user_properties)[_COST].update(
            cpu_s=cpu_s() - cpu, wall_s=time.monotonic() - clock, programs=list(self._started)
        )
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sum up."""
        if report.when != "teardown":
            return
        measured = dict(report.user_properties)[_COST]
        file = file_of(report.nodeid)
        self._of_tests[report.nodeid] += measured["cpu_s"]
        before = self._of_files[file]
        self._of_files[file] = Cost(before.cpu_s + measured["cpu_s"], before.wall_s + measured["wall_s"])
        self._programs[file].update(measured["programs"])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print it all, and write it down if asked to."""
        terminalreporter.section("CPU seconds")
        for name, seconds in sorted(self._of_tests.items(), key=lambda pair: -pair[1])[:_SHOWN]:
            terminalreporter.write_line(f"{seconds:7.2f}  {name}")
        terminalreporter.section("CPU seconds of files, seconds, and the programs that they start")
        for name, cost in sorted(self._of_files.items(), key=lambda pair: -pair[1].cpu_s):
            programs = ", ".join(f"{number} x {program}" for program, number in self._programs[name].most_common())
            terminalreporter.write_line(f"{cost.cpu_s:7.2f} {cost.wall_s:7.2f}  {name}  {programs}")
        total = sum(cost.cpu_s for cost in self._of_files.values())
        terminalreporter.write_line(f"{total:7.2f}  in all")
        if self._save:
            save(self._of_files)


def save(measured: dict[str, Cost], path: Path = SAVED) -> None:
    """Write down what files cost; those that did not run keep what they have, those that are gone go."""
    root = path.parents[1]
    costs = {name: cost for name, cost in {**saved_costs(path), **measured}.items() if (root / name).exists()}
    lines = [f"  {json.dumps(name)}: [{costs[name].cpu_s:.1f}, {costs[name].wall_s:.1f}]" for name in sorted(costs)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
