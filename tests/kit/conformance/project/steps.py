"""Parts that the project adds to its worker, and an option of its command line."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker.control import control_command, inspect_command
from click import Option
from kombu import Consumer, Queue

from tests.kit.conformance.project import app
from tests.kit.conformance.project.notes import note


class WorkerStep(bootsteps.StartStopStep):
    """Starts after the pool, with the worker."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, colour: str = "", **options: Any) -> None:
        super().__init__(parent, **options)
        note("steps", ["made", colour or None])

    def start(self, parent: Any) -> None:
        note("steps", ["worker", type(parent).__name__ in ("Worker", "WorkController")])


class ConsumerStep(bootsteps.ConsumerStep):
    """Consumes messages that are not tasks."""

    def get_consumers(self, channel: Any) -> list[Consumer]:
        return [Consumer(channel, queues=[Queue("plain_messages")], callbacks=[self.handle], accept=["json"])]

    def handle(self, body: Any, message: Any) -> None:
        note("messages", body)
        message.ack()


app.steps["worker"].add(WorkerStep)
app.steps["consumer"].add(ConsumerStep)
app.user_options["worker"].add(Option(("--colour",), default="", help="a colour"))


@inspect_command()
def colours(state: Any) -> dict[str, Any]:
    """Answer a question of the project's own."""
    return {"colours": ["green"], "app": state.app.main is not None}


@control_command(args=[("n", int)], signature="[N=1]")
def paint(state: Any, n: int = 1) -> dict[str, Any]:
    note("painted", n)
    return {"ok": f"painted {n}"}
