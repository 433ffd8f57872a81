"""The time of a handoff: a rename of a 1 GiB file, and copies to another file system compared with `cp`.

    python bench/handoff.py [--size-mib 1024] [--rounds 5] [--folder .] [--other /dev/shm]

Each round hands one file over inside `--folder` (a rename), then from `--other` to `--folder` (a copy that ends when
it is on the disk), and then copies the same file with `cp` followed by `sync -f`. The figures are medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from celeriac.files.handoff import Handoff
from celeriac.files.roots import AllowedRoots


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes (seconds)."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fill(path: Path, mib: int) -> None:
    """Write a file of random data, which a file system cannot compress."""
    block = os.urandom(1024**2)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def hand_over(handoff: Handoff, source: Path) -> Path:
    """Hand `source` over as for a stored task; return its new path."""
    handed = handoff.take(AllowedRoots([source.parent]).open(str(source)), str(uuid.uuid4()), "original.mp4")
    handoff.finish(handed)
    return handed.target


def copy_by_cp(source: Path, target: Path) -> None:
    """Copy a file as an operator would, and wait until it is on the disk."""
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--other", type=Path, default=Path("/dev/shm"))
    given = parser.parse_args()
    here = Path(tempfile.mkdtemp(dir=given.folder))
    there = Path(tempfile.mkdtemp(dir=given.other))
    renames: list[float] = []
    copies: list[float] = []
    plain: list[float] = []
    try:
        handoff = Handoff(here / "storage")
        handoff.prepare()
        kept, source = here / "kept.mp4", there / "source.mp4"
        fill(kept, given.size_mib)
        fill(source, given.size_mib)
        for _ in range(given.rounds):
            started = time.perf_counter()
            target = hand_over(handoff, kept)
            renames.append(time.perf_counter() - started)
            target.rename(kept)

            plain.append(seconds(lambda: copy_by_cp(source, here / "copy.mp4")))
            (here / "copy.mp4").unlink()
            again = there / "again.mp4"
            os.link(source, again)
            started = time.perf_counter()
            target = hand_over(handoff, again)
            copies.append(time.perf_counter() - started)
            target.unlink()
    finally:
        shutil.rmtree(here)
        shutil.rmtree(there)
    rename, copy, cp = (statistics.median(times) for times in (renames, copies, plain))
    print(f"{given.size_mib} MiB, median of {given.rounds}; {given.other} -> {given.folder.resolve()}")
    print(f"rename           {rename * 1000:9.2f} ms   ({min(renames) * 1000:.2f} to {max(renames) * 1000:.2f})")
    print(f"copy, synced     {copy:9.2f} s    ({min(copies):.2f} to {max(copies):.2f})")
    print(f"cp && sync       {cp:9.2f} s    ({min(plain):.2f} to {max(plain):.2f})")
    print(f"copy : cp        {copy / cp:9.2f}")


if __name__ == "__main__":
    main()
