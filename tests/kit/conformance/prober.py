"""The process that runs probes of one side: `python -m tests.kit.conformance.prober OUT THREADS MODULE...`.

It writes a JSON object to OUT: the outcome and the time of each probe by its name, and which packages of ours were
imported.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tests.kit.conformance.probing import PROBES, Probe, outcome_of
from tests.kit.conformance.project import app

#: How long all probes of a process may take (seconds).
PATIENCE_S = 240
_NEVER = ("it never ended", float(PATIENCE_S))


def main(out: str, threads: str, *modules: str) -> None:
    """Run all probes of the modules, so many at once, and write the outcomes."""
    for module in modules:
        importlib.import_module(f"tests.kit.conformance.probes.{module}")
    # Which app is the current one is known to each thread on its own.
    pool = ThreadPoolExecutor(int(threads), initializer=app.set_current)
    futures = {name: pool.submit(_timed, probe) for name, probe in PROBES.items()}
    _, left = wait(futures.values(), timeout=PATIENCE_S)
    if left:
        faulthandler.dump_traceback(sys.stderr)
    outcomes = {name: _NEVER if future in left else future.result() for name, future in futures.items()}
    ours = sorted(name for name in sys.modules if name.partition(".")[0] in ("celeriac", "celeriac_tasks"))
    written = {
        "outcomes": {name: outcome for name, (outcome, _) in outcomes.items()},
        "seconds": {name: seconds for name, (_, seconds) in outcomes.items()},
        "ours": ours,
    }
    Path(out).write_text(json.dumps(written, indent=1, sort_keys=True))


def _timed(probe: Probe) -> tuple[Any, float]:
    """Return the outcome and how many seconds it took, for those who look for what is slow."""
    began = time.monotonic()
    return outcome_of(probe), round(time.monotonic() - began, 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # Threads of clients and embedded workers may still run; nothing waits for them.
    import os

    os._exit(0)
