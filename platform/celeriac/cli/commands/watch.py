"""`celeriac watch`: follow a task live, with a progress bar on a terminal."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Final, Protocol, Self

import typer

from celeriac.cli.connection import on_tasks
from celeriac.cli.options import Config, DataDir, Json, TaskId
from celeriac.cli.output import FAILED, indented, print_json, print_line, printable
from celeriac.errors import StoreUnavailableError
from celeriac.installation.discovery import joined_settings
from celeriac.model import Event, Status, Task
from celeriac.store.watching.feed import TIMELINE
from celeriac.store.watching.hub import LiveHub
from celeriac.task_fields import status_of
from celeriac.tasks.record import plain_number, task_record
from celeriac.tasks.service import Tasks

#: At most this many events of an ended task are shown, the first ones.
MAX_EVENTS: Final = 2000
#: How often a quiet task is looked at (seconds): its stream may have been trimmed, or its record may have expired.
_LOOK_S = 5.0
#: How long the store may be away before watching ends (seconds): longer than a restart takes.
_PATIENCE_S = 30.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Tasks")(watch)


def watch(task_id: TaskId, as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Follow a task to its end, from its first event, and print its result.

    The exit code is 0 if the task completed, 1 if it failed or was cancelled. Ctrl-C ends the watching, not the task.
    With --json: one line per event; the last one is `done`, with the result.
    """
    settings, url = joined_settings(config, data_dir)

    raise typer.Exit(on_tasks(settings, url, lambda tasks: watch_task(tasks, task_id, as_json=as_json)))


async def watch_task(tasks: Tasks, task_id: str, *, as_json: bool) -> int:
    """Show the task's events until it has ended, then its result; returns the exit code.

    Raises `StoreUnavailableError` if the store has been away for half a minute.
    """
    task, store = await tasks.find(task_id), tasks.store
    view: View = _JsonView(task_id) if as_json else _BarView(task) if sys.stdout.isatty() else _LineView()
    if not (await store.known([task_id]))[0]:
        events = await tasks.events(task_id, count=MAX_EVENTS, kinds=TIMELINE)
        with view:
            for past in events:
                view.show(past)
        view.end(task)
        return _exit_code(task)
    clock = asyncio.get_running_loop().time
    last_answer = clock()
    hub = LiveHub(store=store)
    await hub.start()
    try:
        with view:
            async for event in hub.follow(task_id, idle_s=_LOOK_S):
                if event is not None:
                    last_answer = clock()
                    view.show(event)
                    if not _is_final(event):
                        continue
                # The task may have been retried after its end: the record tells which end is the last.
                try:
                    task = await store.get(task_id)
                    if task.status.final and (event is None or not await store.events(task_id, event.id, 1)):
                        break
                except StoreUnavailableError:
                    if clock() - last_answer > _PATIENCE_S:
                        raise
                else:
                    last_answer = clock()
        view.end(task)
    finally:
        await hub.stop()
    return _exit_code(task)


def _exit_code(task: Task) -> int:
    return 0 if task.status is Status.COMPLETED else FAILED


def _is_final(event: Event) -> bool:
    return event.kind == "status" and status_of(event.fields.get("status", "")).final


class View(Protocol):
    """A way to show events as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Event) -> None:
        """Show one event."""

    def end(self, task: Task) -> None:
        """Show how the task ended."""


class _JsonView:
    """One JSON object per event, one per line."""

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, event: Event) -> None:
        print_json({"event": event.kind, "id": event.id, "task_id": self._task_id, **event_facts(event)}, one_line=True)

    def end(self, task: Task) -> None:
        record = task_record(task)
        done = {name: record[name] for name in ("task_id", "status", "result", "error")}
        print_json({"event": "done", **done}, one_line=True)


class _LineView:
    """Plain lines, for a file or a pipe."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, event: Event) -> None:
        facts = event_facts(event)
        if event.kind == "progress":
            print_line(f"{facts['percentage']:>5}%  {_stage_and_message(event)}".rstrip())
        else:
            print_line(f"       {_status_line(event)}")

    def end(self, task: Task) -> None:
        _print_end(task)


class _BarView:
    """A progress bar; status changes are lines above it."""

    def __init__(self, task: Task) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._console = Console(highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[label]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", markup=False),
            console=self._console,
        )
        self._label = printable(task.type)
        self._row = self._bar.add_task("", total=100, label=self._label, message="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        if event.kind == "progress":
            self._bar.update(self._row, completed=float(event.fields["percentage"]), message=_stage_and_message(event))
            return
        if event.fields["status"] == Status.PROCESSING:
            # A new attempt begins at zero.
            self._bar.reset(self._row, label=self._label, message="")
        elif event.fields["status"] == Status.COMPLETED:
            self._bar.update(self._row, completed=100)
        self._console.print(_status_line(event), markup=False)

    def end(self, task: Task) -> None:
        _print_end(task)


def event_facts(event: Event) -> dict[str, Any]:
    """Return an event's fields as the API writes them: numbers as numbers, the status in lower case."""
    facts: dict[str, Any] = dict(event.fields)
    if "percentage" in facts:
        facts["percentage"] = plain_number(float(facts["percentage"]))
    for name in ("timestamp_ms", "attempt"):
        if facts.get(name):
            facts[name] = int(facts[name])
    if "status" in facts:
        facts["status"] = status_of(facts["status"]).wire
    if "retryable" in facts:
        facts["retryable"] = facts["retryable"] == "1"
    return facts


def event_line(event: Event) -> str:
    """Return an event as one line for people."""
    if event.kind != "progress":
        return _status_line(event)
    return f"{event_facts(event)['percentage']}%  {_stage_and_message(event)}".rstrip()


def _stage_and_message(event: Event) -> str:
    return printable("  ".join(text for name in ("stage", "message") if (text := event.fields.get(name))))


def _status_line(event: Event) -> str:
    facts = event_facts(event)
    if "damaged" in facts:
        return printable(f"damaged: {facts['damaged']}")
    parts = [facts.get("status", "")]
    if facts.get("attempt") and parts == ["processing"]:
        parts.append(f"(attempt {facts['attempt']})")
    if facts.get("code") or facts.get("message"):
        parts.append(": ".join(str(facts[name]) for name in ("code", "message") if facts.get(name)))
    return printable(" ".join(parts))


def _print_end(task: Task) -> None:
    if task.status is Status.COMPLETED:
        print_line(indented(task.result))
    else:
        why = f": {task.error.code}: {task.error.message}" if task.error is not None else ""
        print_line(f"{task.status.wire}{printable(why)}")
