"""The commands of `celery control` that change which queues a worker serves."""

from __future__ import annotations

from typing import Any

from celery.worker import control
from celery.worker.control import control_command


@control_command(  # type: ignore[untyped-decorator]
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(state: Any, queue: str, *args: Any, **options: Any) -> Any:
    """Tell worker(s) to consume from task queue by name."""
    answer = control.add_consumer(state, queue, *args, **options)
    if (groups := getattr(state.consumer, "celeriac_groups", None)) is not None:
        state.consumer.call_soon(groups.join, state.consumer, queue)
    return answer


@control_command(args=[("queue", str)], signature="<queue>")  # type: ignore[untyped-decorator]
def cancel_consumer(state: Any, queue: str, **options: Any) -> Any:
    """Tell worker(s) to stop consuming from task queue by name.

    A worker of all groups would otherwise come back to the queue as soon as tasks wait there.
    """
    if (groups := getattr(state.consumer, "celeriac_groups", None)) is None:
        return control.cancel_consumer(state, queue, **options)
    state.consumer.call_soon(groups.leave, state.consumer, queue)
    return {"ok": f"no longer consuming from {queue}"}
