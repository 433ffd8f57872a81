"""The platform whose pages a browser looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.command_line import REPOSITORY
from tests.kit.up.running_up import RunningUp


@contextmanager
def pages_platform(folder: Path, *more: str) -> Iterator[str]:
    """Run a platform with a worker for the types of `pages_types.py` and of further modules; yields its address."""
    config = folder / "celeriac.yaml"
    config.write_text(f"imports: [{', '.join(('tests.kit.up.pages_types', *more))}]\nworker: {{concurrency: 20}}\n")
    with RunningUp(folder / "data", "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY)) as up:
        asyncio.run(up.ready())
        yield up.run_json["http"]
        asyncio.run(up.stop())
