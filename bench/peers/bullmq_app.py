"""BullMQ on Node: publishes with its `addBulk`."""

from __future__ import annotations

import os
from typing import Any

import bullmq


def send(count: int, payload: dict[str, Any]) -> None:
    """Publish `count` tasks."""
    bullmq.publish(os.environ["BENCH_URL"], count, payload)
