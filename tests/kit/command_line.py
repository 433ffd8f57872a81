"""The repository, and the `celeriac` command as a user runs it in a shell."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.kit.waiting import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
CELERIAC = (sys.executable, "-m", "celeriac")


def clean_environment(**more: str) -> dict[str, str]:
    """Return our environment without settings of whoever runs the tests."""
    ours = ("CELERIAC_", "REDIS_", "DATABASE_URL", "BROKER_URL", "GRPC_SERVICES", "TASK_GRPC_PORT", "MAX_BODY_BYTES")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


async def celeriac(
    *arguments: str, stdin: str | None = None, cwd: Path | None = None, **environ: str
) -> tuple[int, str, str]:
    """Run a command to its end and return exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *CELERIAC,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(COLUMNS="200", **environ),
        cwd=cwd,
    )
    out, err = await asyncio.wait_for(process.communicate(None if stdin is None else stdin.encode()), PATIENCE_S)
    return process.returncode or 0, out.decode(), err.decode()
