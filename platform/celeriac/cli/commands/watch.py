"""`celeriac watch`: follow a task live, with a progress bar on a terminal."""

from __future__ import annotations

import sys
from contextlib import aclosing
from types import TracebackType
from typing import Final, Protocol, Self

import typer

from celeriac.cli.ids import whole_task_id
from celeriac.cli.options import Json, TaskId, anywhere
from celeriac.cli.output import FAILED, indented, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record

#: At most this many events of an ended task are shown, the first ones.
MAX_EVENTS: Final = 2000


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Tasks")(anywhere(watch))


def watch(there: Destination, task_id: TaskId, as_json: Json = False) -> None:
    """Follow a task to its end, from its first event, and print its result.

    The exit code is 0 if the task completed, 1 if it failed or was cancelled. Ctrl-C ends the watching, not the task.
    With --json: one line per event; the last one is `done`, with the result.
    """

    async def work(platform: AnyPlatform) -> int:
        return await watch_task(platform, await whole_task_id(platform, task_id), as_json=as_json)

    raise typer.Exit(there.run(work))


async def watch_task(platform: AnyPlatform, task_id: str, *, as_json: bool) -> int:
    """Show the task's events until it has ended, then its result; returns the exit code.

    Raises `StoreUnavailableError` or `ApiUnavailableError` if what tells them has been away for half a minute.
    """
    end: Record | None = None
    view = await _view(platform, task_id, as_json=as_json)
    with view:
        async with aclosing(platform.tasks.watch(task_id)) as events:
            async for event in events:
                if event["event"] == "done":
                    end = event
                else:
                    view.show(event)
    if end is None:
        # Its record went away while it was watched: the history knows how it ended, or nobody does.
        record = await platform.tasks.find(task_id)
        end = {name: record[name] for name in ("task_id", "status", "result", "error")}
    view.end(end)
    return 0 if end["status"] == "completed" else FAILED


async def _view(platform: AnyPlatform, task_id: str, *, as_json: bool) -> View:
    if as_json:
        return _JsonView()
    return _BarView((await platform.tasks.find(task_id))["type"]) if sys.stdout.isatty() else _LineView()


class View(Protocol):
    """A way to show events as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Record) -> None:
        """Show one event."""

    def end(self, done: Record) -> None:
        """Show how the task ended."""


class _JsonView:
    """One JSON object per event, one per line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, event: Record) -> None:
        print_json(event, one_line=True)

    def end(self, done: Record) -> None:
        print_json(
            {"event": "done", **{name: done.get(name) for name in ("task_id", "status", "result", "error")}},
            one_line=True,
        )


class _LineView:
    """Plain lines, for a file or a pipe."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, event: Record) -> None:
        if event["event"] == "progress":
            print_line(f"{event['percentage']:>5}%  {_stage_and_message(event)}".rstrip())
        else:
            print_line(f"       {_status_line(event)}")

    def end(self, done: Record) -> None:
        if done["status"] == "completed":
            print_line("       completed")
        _print_end(done)


class _BarView:
    """A progress bar; status changes are lines above it."""

    def __init__(self, task_type: str) -> None:
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
        self._label = printable(task_type)
        self._row = self._bar.add_task("", total=100, label=self._label, message="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def show(self, event: Record) -> None:
        if event["event"] == "progress":
            self._bar.update(self._row, completed=float(event["percentage"]), message=_stage_and_message(event))
            return
        if event["status"] == "processing":
            # A new attempt begins at zero.
            self._bar.reset(self._row, label=self._label, message="")
        self._console.print(_status_line(event), markup=False)

    def end(self, done: Record) -> None:
        if done["status"] == "completed":
            self._console.print("completed")
        _print_end(done)


def event_line(kind: str, event: Record) -> str:
    """Return an event of the kind `progress` or `status` as one line for people."""
    if kind != "progress":
        return _status_line(event)
    return f"{event['percentage']}%  {_stage_and_message(event)}".rstrip()


def _stage_and_message(event: Record) -> str:
    return printable("  ".join(text for name in ("stage", "message") if (text := event.get(name))))


def _status_line(event: Record) -> str:
    if "damaged" in event:
        return printable(f"damaged: {event['damaged']}")
    parts = [event["status"]]
    if event["attempt"] and parts == ["processing"]:
        parts.append(f"(attempt {event['attempt']})")
    if event.get("replaced_by"):
        parts.append(f"(replaced by {event['replaced_by']})")
    if event["error"] is not None:
        parts.append(_error_text(event["error"]))
    return printable(" ".join(parts))


def _error_text(error: Record) -> str:
    return ": ".join(str(error[name]) for name in ("code", "message") if error[name])


def _print_end(done: Record) -> None:
    if done["status"] == "completed":
        print_line(indented(done["result"]))
        return
    why = f": {_error_text(done['error'])}" if done["error"] is not None else ""
    print_line(f"{done['status']}{printable(why)}")
    if done["status"] == "failed":
        print_line(f"celeriac log {printable(done['task_id'])} shows its log, with tracebacks")
