"""What do rules cost? CPU time of the store, and of the process that claims, for each task.

One process submits no-op tasks, claims them by their messages and completes them, 50 at a time, as a worker does,
without a worker's own work. It does so with no rule, one (fair), and four (the group's limit, fair, by key, of the type
by user), while tasks of 1, 1,000 and 100,000 keys wait. `--base FOLDER` measures the `platform/` of another version
without rules too, in turn with this one: rules that nobody sets must cost nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from figures import Figure, figure, table, write_json
from machine import BENCH, choose_cores, store_on, versions

#: Tasks that are claimed and completed at once.
_AT_ONCE: Final = 50
_GROUP: Final = "bench"


async def set_rules(store: Any, count: int) -> None:
    """Set so many rules, all of which have room for what is measured."""
    if count == 0:
        return
    from celeriac.limits.rules import By, LimitRule

    rules = [
        LimitRule("fair", group=_GROUP, by=By.KEY, fair=True),
        LimitRule(f"group:{_GROUP}", group=_GROUP, max_running=1000),
        LimitRule("by-key", group=_GROUP, by=By.KEY, max_running=1000),
        LimitRule("of-type", type="noop", by=By.USER, max_running=1000),
    ]
    for rule in rules[:count]:
        await store.set_rule(rule)


async def measure(url: str, rules: int, waiting_keys: int, tasks: int) -> dict[str, float]:
    """Return µs of CPU for each task: of the store and of this process, to submit it and to run it."""
    import redis

    from celeriac.model import Claim, Submission
    from celeriac.settings import GroupSettings, Settings
    from celeriac.store.task_store import TaskStore

    client: Any = redis.Redis.from_url(url, decode_responses=True)
    client.flushdb()
    settings = Settings(groups={_GROUP: GroupSettings(max_queue_length=10_000_000)})

    def used_us() -> tuple[float, float]:
        cpu = client.info("cpu")
        return 1e6 * (cpu["used_cpu_user"] + cpu["used_cpu_sys"]), 1e6 * time.process_time()

    def taken() -> list[str]:
        found = client.rpop(f"{_GROUP}\x06\x169", _AT_ONCE) or []
        return [json.loads(text)["headers"]["id"] for text in found]

    async with TaskStore(url, settings.store) as store:
        await set_rules(store, rules)
        # An earlier version knows no keys, and nobody has rules there.
        numbers = range(waiting_keys + tasks)
        keyed: list[dict[str, Any]] = [{}] * len(numbers)
        if rules:
            keyed = [{"key": f"k{n % waiting_keys}", "user_id": f"u{n % 10}"} for n in numbers]
        before = used_us()
        for first in numbers[:: _AT_ONCE * 4]:
            some = numbers[first : first + _AT_ONCE * 4]
            await asyncio.gather(*(store.submit(Submission(f"t{n}", "noop", group=_GROUP, **keyed[n])) for n in some))
        submitted = used_us()
        done = 0
        while done < tasks:
            claims = await asyncio.gather(*(store.claim(task_id, worker="w") for task_id in taken()))
            granted = [claim for claim in claims if isinstance(claim, Claim)]
            await asyncio.gather(*(store.complete(claim, "null") for claim in granted))
            done += len(granted)
        run = used_us()
    submissions = waiting_keys + tasks
    return {
        "submit_store_us": (submitted[0] - before[0]) / submissions,
        "submit_process_us": (submitted[1] - before[1]) / submissions,
        "run_store_us": (run[0] - submitted[0]) / done,
        "run_process_us": (run[1] - submitted[1]) / done,
    }


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--keys", default="1,1000,100000", help="how many keys have waiting tasks")
    parser.add_argument("--base", type=Path, help="a folder with the platform/ of another version")
    parser.add_argument("--json", help="file for the figures, - for standard output")
    parser.add_argument("--measure", nargs=4, metavar=("URL", "RULES", "KEYS", "TASKS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        url, *numbers = options.measure
        print(json.dumps(asyncio.run(measure(url, *map(int, numbers)))))
        return
    cores = choose_cores()
    cells: list[tuple[str, int, int]] = []
    for keys in map(int, options.keys.split(",")):
        cells += [("base", 0, keys)] if options.base else []
        cells += [("this", rules, keys) for rules in (0, 1, 4)]
    found: dict[tuple[str, int, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder, store_on(Path(folder), cores.others) as store:
        for _ in range(options.rounds):
            for version, rules, keys in cells:
                path = os.pathsep.join([*([str(options.base / "platform")] if version == "base" else []), str(BENCH)])
                numbers = [str(rules), str(keys), str(options.tasks)]
                answer = subprocess.run(
                    [sys.executable, __file__, "--measure", store.url(0), *numbers],
                    env={**os.environ, "PYTHONPATH": path},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                for name, value in json.loads(answer.stdout).items():
                    found[version, rules, keys][name].append(value)
    figures: dict[tuple[str, int, int], dict[str, Figure]] = {
        cell: {name: figure(values) for name, values in measured.items()} for cell, measured in found.items()
    }
    names = ["submit_store_us", "submit_process_us", "run_store_us", "run_process_us"]
    head = [
        "version, rules, keys that wait",
        *(name.removesuffix("_us").replace("_", ", ") + " (µs)" for name in names),
    ]
    print(versions("redis"))
    print(table(head, ([f"{v}, {r}, {k:,}", *(one[n].text() for n in names)] for (v, r, k), one in figures.items())))
    if options.json:
        cells_json = {f"{v} {r} {k}": {n: one[n].as_json() for n in names} for (v, r, k), one in figures.items()}
        write_json(options.json, "limits", {"versions": versions("redis"), "cells": cells_json})


if __name__ == "__main__":
    main()
