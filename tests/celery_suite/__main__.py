"""Run Celery's own tests: see the package. Exits with 1 if a test differs that `expected.toml` does not list."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.celery_suite.comparison import Ends, differences, expected_differences, left_out, stale, table
from tests.celery_suite.running import Ended, Suite
from tests.celery_suite.sdist import NoSdistError, celerys_tests

_FOLDER = "t/integration/"


def main() -> int:
    options = _options()
    try:
        folder = celerys_tests()
    except NoSdistError as exc:
        print(exc, file=sys.stderr)
        return 1
    wanted = [_FOLDER + (name if ".py" in name else f"{name}.py") for name in options.tests] or _files(folder)
    known = json.loads(options.baseline.read_text())["ends"]["stock"] if options.baseline else {}
    results: dict[str, dict[str, Ended]] = {}
    if known:
        mine = tuple(name.removeprefix(_FOLDER) for name in wanted)
        results["stock"] = {test: Ended(**end) for test, end in known.items() if test.startswith(mine)}
    for app in options.apps:
        if app not in results:
            suite = Suite(folder, app, limit_s=options.limit, wait_s=options.wait, chosen=options.chosen)
            results[app] = _run(suite, wanted, options.log)
    print(f"\nCelery {version('celery')}, kombu {version('kombu')}, Python {platform.python_version()}\n")
    print(table(results))
    unexpected = sum(_say_differences(app, results["stock"], ends) for app, ends in results.items() if app != "stock")
    if options.json:
        options.json.write_text(json.dumps(_document(results), indent=1) + "\n")
    return 1 if unexpected else 0


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="make celery-suite", description="Run Celery's own integration tests.")
    parser.add_argument("tests", nargs="*", help="files or tests, such as test_canvas or test_canvas.py::test_chain")
    parser.add_argument("--apps", nargs="+", default=["stock", "adopted", "own"], choices=["stock", "adopted", "own"])
    parser.add_argument("-k", dest="chosen", default="", help="which tests by their names, as in pytest")
    parser.add_argument("--baseline", type=Path, help="take the results of the stock app from an earlier --json")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--log", type=Path, default=Path(), help="the folder for what the test processes print")
    parser.add_argument("--limit", type=float, default=200, help="seconds a test may take")
    parser.add_argument("--wait", type=float, default=20, help="seconds a test may wait for one result")
    options = parser.parse_args()
    if "stock" not in options.apps:
        options.apps.insert(0, "stock")
    options.log.mkdir(parents=True, exist_ok=True)
    return options


def _files(folder: Path) -> list[str]:
    return [_FOLDER + path.name for path in sorted((folder / _FOLDER).glob("test_*.py")) if path.stem not in left_out()]


def _run(suite: Suite, wanted: list[str], logs: Path) -> dict[str, Ended]:
    ends: dict[str, Ended] = {}
    for tests in wanted:
        name = tests.removeprefix(_FOLDER)
        begun = time.monotonic()
        found = suite.run(tests, log=logs / f"celery-suite-{suite.app}-{name.partition('.py')[0]}.log")
        ends |= {test.removeprefix(_FOLDER): end for test, end in found.items()}
        failed = sum(end.outcome == "failed" for end in found.values())
        print(f"{suite.app}: {name}: {len(found)} tests, {failed} failed, {time.monotonic() - begun:.0f} s", flush=True)
    return ends


def _say_differences(app: str, stock: Ends, ends: Ends) -> int:
    """Print what differs; returns how much of it is not expected."""
    listed = expected_differences(app)
    found = differences(stock, ends, listed)
    unexpected = [one for one in found if not one.expected]
    if found:
        print(
            f"\n{app}: {len(found)} tests differ from stock Celery, {len(found) - len(unexpected)} of them as expected"
        )
    for one in found:
        reason = f"expected: {one.expected}" if one.expected else f"NOT EXPECTED: {one.here}: {one.why[:300]}"
        print(f"  {one.test}\n    {reason}")
    for test in stale(stock, ends, listed):
        # Not an error: some depend on the moment.
        print(f"  {test}\n    does not differ this time: remove it from expected.toml if it never does")
    return len(unexpected)


def _document(results: dict[str, dict[str, Ended]]) -> dict[str, Any]:
    return {
        "versions": {"celery": version("celery"), "kombu": version("kombu"), "python": platform.python_version()},
        "ends": {app: {test: asdict(end) for test, end in ends.items()} for app, ends in results.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
