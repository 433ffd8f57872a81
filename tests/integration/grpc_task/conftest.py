"""An executor that does what it is told, and the handler that calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.kit.executors.process import ExecutorProcess


@pytest.fixture
async def executor() -> AsyncIterator[ExecutorProcess]:
    """A scripted executor in a process of its own."""
    async with ExecutorProcess() as process:
        yield process
