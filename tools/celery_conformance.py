"""Write the comparison with stock Celery into docs/celery.md; `--check` fails if it is stale.

The probes are in `tests/kit/conformance/probes/`, the differences in `tests/kit/conformance/differences.py`. This tool
runs nothing: `tests/integration/conformance/` runs all probes and fails if the table is not true.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.kit.conformance.differences import DIFFERENCES, reason_of  # noqa: E402
from tests.kit.conformance.sides import SIDES, topics  # noqa: E402

TARGET = REPOSITORY / "docs" / "celery.md"
PROBES = REPOSITORY / "tests" / "kit" / "conformance" / "probes"
#: A project sees the same on the direct path of a worker, so the page does not show that side.
_SHOWN = [side for side in SIDES if not side.quiet]
_BEGIN, _END = "<!-- written by tools/celery_conformance.py -->", "<!-- end of what it writes -->"
_BETWEEN = re.compile(rf"{re.escape(_BEGIN)}\n.*?{re.escape(_END)}", re.DOTALL)


def table() -> str:
    """Return the comparison: how many probes of each topic are the same, and what the others are about."""
    names = [name for listed in topics().values() for name in listed]
    lines = [
        f"{len(names)} probes of one project run in the test suite, on stock Celery (Redis, prefork) and here. What a"
        " project sees is compared value by value.",
        "",
        "| probes | all | " + " | ".join(f"same with {side.title}" for side in _SHOWN) + " |",
        "| --- | --- |" + " --- |" * len(_SHOWN),
    ]
    for module, listed in topics().items():
        same = [str(sum(reason_of(side.name, name) is None for name in listed)) for side in _SHOWN]
        lines.append(f"| {_subject_of(module)} | {len(listed)} | {' | '.join(same)} |")
    same = [str(sum(reason_of(side.name, name) is None for name in names)) for side in _SHOWN]
    lines += [f"| all | {len(names)} | {' | '.join(same)} |", "", "The others, by their reason:", ""]
    lines += [
        "| what is different | " + " | ".join(side.title for side in _SHOWN) + " |",
        "| --- |" + " --- |" * len(_SHOWN),
    ]
    for one in (one for one in DIFFERENCES if any(side.name in one.probes for side in _SHOWN)):
        counts = [str(len(one.probes.get(side.name, ())) or "") for side in _SHOWN]
        lines.append(f"| {one.reason} | {' | '.join(counts)} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return a page with the comparison as it is now."""
    if not _BETWEEN.search(text):
        raise ValueError(f"{TARGET} has no place for the comparison: {_BEGIN} … {_END}")
    return _BETWEEN.sub(lambda _: f"{_BEGIN}\n\n{table()}\n\n{_END}", text)


def _subject_of(module: str) -> str:
    document = ast.get_docstring(ast.parse((PROBES / f"{module}.py").read_text("utf-8"))) or module
    return document.splitlines()[0].rstrip(".")


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the page is stale")
    arguments = parser.parse_args()
    text = TARGET.read_text("utf-8")
    fresh = page(text)
    if not arguments.check:
        TARGET.write_text(fresh, "utf-8")
        return 0
    if text == fresh:
        return 0
    print(f"{TARGET} is stale: run python tools/celery_conformance.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
