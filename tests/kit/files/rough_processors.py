"""File processors for tests: each does one thing that a processor may do to its worker, or to the machine."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from celeriac import RateLimited, SkipRetry
from celeriac.tasks.types.processors import FileJob, NoOptions, processor


class Rough(BaseModel):
    how: str = ""
    note: str = ""


@processor("capitals", options=NoOptions)
def capitals(job: FileJob, options: NoOptions) -> dict[str, Any]:
    """A processor as somebody would write it."""
    text = job.source.read_text()
    job.progress(50, "counting")
    job.output("result.txt").write_text(text.upper())
    job.output("second.txt").write_text("more")
    (job.folder / "scratch").write_text("thrown away")
    return {"words": len(text.split()), "share": len(text.split()) / 4}


@processor("rough", options=Rough)
def rough(job: FileJob, options: Rough) -> dict[str, Any]:
    """End badly in the way that `how` says."""
    job.output("result.bin").write_bytes(b"half a result")
    match options.how:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            hoard = []
            while True:
                hoard.append(bytearray(16 * 1024**2))
        case "cpu":
            while True:
                pass
        case "large":
            with (job.folder / "large").open("wb") as large:
                large.truncate(2**40)
        case "files":
            kept = []
            while True:
                kept.append(os.dup(0))
        case "raises":
            raise ValueError("two\nlines")
        case "skips":
            raise SkipRetry("no, thanks", code="my_code")
        case "limited":
            raise RateLimited("too many", retry_after=7.5)
        case "exits":
            sys.exit(4)
        case "prints":
            print("x" * 100_000)
            print('["done", [], {}]', flush=True)
            os.write(2, b"\xff\xfe" * 100_000)
        case "no output":
            job.output("never.txt")
        case "link":
            job.output("link.txt").symlink_to("/etc/passwd")
        case "facts too large":
            return {"text": "x" * 2_000_000}
        case "odd facts":
            return {"shares": [1, float("nan")]}
        case "no facts":
            return None  # type: ignore[return-value]
        case "environment":
            return {"names": sorted(os.environ), "core": resource.getrlimit(resource.RLIMIT_CORE)[0]}
        case "import":
            import celeriac_has_no_such_module  # type: ignore[import-not-found]  # noqa: F401
        case "sleeps":
            children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])]
            Path(options.note).write_text(" ".join(str(pid) for pid in [os.getpid(), *(one.pid for one in children)]))
            job.progress(10, "sleeping")
            time.sleep(600)
    return {"how": options.how}
