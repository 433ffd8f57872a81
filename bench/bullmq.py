"""BullMQ on Node, a peer that is not written in Python: installed by npm into a cache folder of the user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from machine import BENCH

_PROGRAMS: Final = BENCH / "peers" / "bullmq"


def installed() -> Path | None:
    """Return the folder with the programs of `peers/bullmq` and what they need; None if Node or npm is not there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "celeriac-bench" / "bullmq"
    cache.mkdir(parents=True, exist_ok=True)
    wanted = (_PROGRAMS / "package.json").read_text("utf-8")
    manifest = cache / "package.json"
    if not manifest.exists() or manifest.read_text("utf-8") != wanted or not (cache / "node_modules").exists():
        manifest.write_text(wanted, "utf-8")
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit"], cwd=cache, check=True)
    for program in _PROGRAMS.glob("*.mjs"):
        shutil.copy(program, cache)
    return cache


def version() -> str:
    """Return the version that is installed, as `peers/bullmq/package.json` has it."""
    manifest = json.loads((_PROGRAMS / "package.json").read_text("utf-8"))
    return str(manifest["dependencies"]["bullmq"])
