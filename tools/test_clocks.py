"""Runs the tests that depend on the clock at many moments and in many time zones (libfaketime).

    python tools/test_clocks.py                       each moment in one of the zones
    python tools/test_clocks.py --all                 each moment in each zone
    python tools/test_clocks.py --clock 04:30 --zone UTC -- -x -k backfill
    python tools/test_clocks.py --clock "2100-02-28 23:59:50" --zone Asia/Tokyo tests/unit tests/integration/schedules
    python tools/test_clocks.py --at "leap day" Asia/Kathmandu --at spring Europe/Berlin tests/unit

All processes that a test starts, and the Valkey of the tests, share the shifted clock. PostgreSQL runs on the clock of
the machine, as a database elsewhere may: no test may depend on its clock.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

ROOT: Final = Path(__file__).resolve().parent.parent

#: The moments, in UTC: hours at which a test once failed, turns of the day and of the year, both changes of the clocks
#: in Berlin, the extra day of a leap year.
CLOCKS: Final = {
    "04:30": "2027-01-14 04:30:00",
    "05:10": "2027-06-15 05:10:00",
    "midnight": "2027-06-15 23:59:30",
    "spring": "2027-03-28 00:59:30",
    "autumn": "2027-10-31 00:59:30",
    "leap day": "2028-02-29 04:30:00",
    "new year": "2027-12-31 23:59:30",
}
ZONES: Final = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
#: What the source of a test says if its outcome may depend on the clock. A new test is found by these words too.
_WORDS: Final = re.compile(
    r"datetime\.now|time\.time\(|utcnow|server_ms|timezone|ZoneInfo|cron|schedul|retention|backfill|expires|stats|charts"
)
#: Folders whose tests run here. Browsers do not start under a shifted clock.
_FOLDERS: Final = ("tests/unit", "tests/integration")
_LIBRARIES: Final = (
    *("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime"),
    *("/usr/local/lib/faketime", "/opt/homebrew/lib/faketime"),
)


def files() -> list[str]:
    """Return the test files that have a word of time in them."""
    found = [path for folder in _FOLDERS for path in sorted((ROOT / folder).rglob("test_*.py"))]
    return [str(path.relative_to(ROOT)) for path in found if _WORDS.search(path.read_text())]


def library() -> Path:
    """Return libfaketime."""
    for folder in _LIBRARIES:
        path = Path(folder) / "libfaketimeMT.so.1"
        if path.exists():
            return path
    sys.exit("libfaketime is missing: install it, for example with `apt install libfaketime`")


def environment(moment: str, zone: str) -> dict[str, str]:
    """Return the environment in which it is `moment` now. The clock goes on from there, the same in all processes."""
    ahead = datetime.fromisoformat(moment).replace(tzinfo=UTC) - datetime.now(UTC)
    return {
        **os.environ,
        "TZ": zone,
        "LD_PRELOAD": str(library()),
        "FAKETIME": f"{round(ahead.total_seconds()):+d}s",
        # Pauses and timeouts last as long as they say.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _moment(text: str) -> str:
    """Return the name of a moment, or the moment in UTC that the text says."""
    try:
        return text if text in CLOCKS else datetime.fromisoformat(text).replace(tzinfo=None).isoformat(" ")
    except ValueError as exc:
        names = ", ".join(CLOCKS)
        raise argparse.ArgumentTypeError(f"{text!r} is neither YYYY-MM-DD HH:MM:SS nor one of {names}") from exc


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (KeyError, ValueError) as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time zone such as Europe/Berlin") from exc


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests; returns 1 if any run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="each moment in each zone")
    names = ", ".join(CLOCKS)
    parser.add_argument(
        "--clock", action="append", type=_moment, help=f"only this moment: {names}, or YYYY-MM-DD HH:MM:SS in UTC"
    )
    parser.add_argument("--zone", action="append", type=_zone, help="only this zone (several are possible)")
    parser.add_argument("--at", action="append", nargs=2, metavar=("CLOCK", "ZONE"), help="this moment in this zone")
    parser.add_argument("--list", action="store_true", help="print the test files and end")
    parser.add_argument(
        "pytest", nargs="*", help="only these files and folders, and, after --, further arguments of pytest"
    )
    options = parser.parse_args(arguments)
    chosen = files()
    if options.list:
        print("\n".join(chosen))
        return 0
    try:
        pairs = [(_moment(clock), _zone(zone)) for clock, zone in options.at or ()]
    except argparse.ArgumentTypeError as exc:
        parser.error(f"--at: {exc}")
    if not pairs or options.clock or options.zone:
        for number, name in enumerate(options.clock or CLOCKS):
            zones = options.zone or (ZONES if options.all else [ZONES[number % len(ZONES)]])
            pairs += [(name, zone) for zone in zones]
    given = any((ROOT / argument.split("::")[0]).exists() for argument in options.pytest)
    failed = []
    for name, zone in pairs:
        moment = CLOCKS.get(name, name)
        print(f"--- {name}: {moment} UTC, in {zone}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", *options.pytest, *([] if given else chosen)]
        ended = subprocess.run(command, cwd=ROOT, env=environment(moment, zone), check=False)  # noqa: S603
        if ended.returncode:
            failed.append(f"{name} in {zone}")
    print("failed: " + "; ".join(failed) if failed else "all clocks are fine")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
