"""A RabbitMQ for tests: where it is, and a group of a test's own on it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kombu import Connection

URL = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")


def need_rabbitmq() -> None:
    """Without RabbitMQ a test fails in CI; elsewhere it is skipped, and says so."""
    try:
        with Connection(URL, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, timeout=3)
    except Exception as exc:
        message = f"there is no RabbitMQ at TEST_AMQP_URL or 127.0.0.1:5672: {exc}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def broker_group() -> Iterator[str]:
    """A group of the test's own; its queue is gone afterwards."""
    name = f"celeriac-test-{uuid.uuid4().hex[:10]}"
    yield name
    with Connection(URL) as connection:
        connection.default_channel.queue_delete(name)
