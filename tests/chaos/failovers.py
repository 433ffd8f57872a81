"""Many failovers under load: the primary is killed, frozen and cut off, again and again; then everything is counted.

    make failovers ROUNDS=200                      # or with a bound: ROUNDS=200 MINUTES=30
    make failovers ROUNDS=20 BRAND=redis TLS=1 SEED=7

It starts three servers and three Sentinels, two API processes and two workers with `durability: replicated`, submits
through HTTP and from a thread, and kills workers. It prints a line per round, and exits with 1 if an accepted task was
lost, ended twice or not at all, or if no task could be submitted and run in time after a failover.

pytest does not collect it: it takes about ten seconds per round.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from celeriac.errors import TaskNotFoundError
from tests.kit.chaos.failovers import FAULTS, FailoverPlatform
from tests.kit.sentinels import Sentinels
from tests.kit.soak.processes import renice


async def _run(arguments: argparse.Namespace, folder: Path) -> int:
    chance = random.Random(f"faults {arguments.seed}")
    give_up_at = time.monotonic() + arguments.minutes * 60
    with Sentinels(folder / "store", brand=arguments.brand, tls=arguments.tls) as sentinels:
        async with FailoverPlatform(folder, sentinels, seed=f"load {arguments.seed}") as platform:
            for number in range(1, arguments.rounds + 1):
                if time.monotonic() > give_up_at:
                    _say("the time is over")
                    break
                fault = chance.choice(list(FAULTS))
                await platform.round(fault)
                _say(f"round {number}: {fault}, back after {platform.back_s[-1][1]:.1f} s")
            _say(f"everything ends: {await platform.settle()}")
    return 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--brand", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--seed", default=secrets.token_hex(3))
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.tls and arguments.brand == "valkey":
        parser.error("the bundled Valkey is built without TLS: use BRAND=redis with TLS=1")
    renice(arguments.nice)
    folder = Path(tempfile.mkdtemp(prefix="failovers-"))
    _say(f"seed {arguments.seed}, below {folder}")
    try:
        return asyncio.run(_run(arguments, folder))
    except (AssertionError, TaskNotFoundError) as exc:
        _say(f"failed: {exc}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
