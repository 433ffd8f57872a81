"""The reference of the Python API, from the docstrings of what `celeriac` and its public modules export.

Each exported name is on exactly one page; a test finds a name that `__all__` has and no page.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

import celeriac
from celeriac import CeleriacError

#: The modules whose `__all__` is the public API.
MODULES = ("celeriac", "celeriac.testing", "celeriac.client")
#: What a module of tasks uses of a task type; its methods are inherited.
_OF_A_TYPE = (
    "submit, asubmit, run, arun, options, delay, __call__, "
    "group, timeout_s, retention_s, concurrency, final_errors, json_schema"
)
#: What mkdocstrings is told about some names. All settings are on a page of their own.
_OPTIONS = {
    "Settings": "{members: false}",
    "TaskType": f"{{inherited_members: true, members: [{_OF_A_TYPE}]}}",
}


@dataclass(frozen=True)
class _Page:
    title: str
    intro: str
    #: In this order: names of `celeriac`, or with the module in which they are.
    names: tuple[str, ...]


PAGES = {
    "python-tasks": _Page(
        "Task types",
        "What a module of tasks imports. [Write a task type](../index.md#write-a-task-type) shows it at work.",
        (
            *("task", "TaskType", "Context", "BlockingContext", "RetryPolicy", "Task", "Status", "Progress", "LogLine"),
            "adopt",
        ),
    ),
    "python-client": _Page(
        "Client",
        "[The Python clients](../clients.md) has examples. `AsyncClient` has the methods of `Client`, to be awaited.",
        (
            *("Client", "TaskHandle", "AsyncClient", "AsyncTaskHandle", "NewTask"),
            *(f"client.{name}" for name in ("TaskOptions", "FilterOptions", "Chart", "Counts", "DurationStats")),
            *("client.ChartPart", "client.SlowTask"),
            *("client.TaskCounts", "client.TaskHistogram", "client.HistogramBucket", "client.ErrorGroup"),
            *("client.Wait", "client.TaskStep"),
            *("client.ClientWorkflows", "client.AsyncClientWorkflows", "client.NewNode", "client.AcceptedWorkflow"),
            "client.NodeChange",
        ),
    ),
    "python-testing": _Page(
        "Testing",
        "[Testing task types](../testing.md) has examples.",
        tuple(f"testing.{name}" for name in ("run_task", "run_task_async", "TaskOutcome", "platform", "Platform")),
    ),
    "python-schedules": _Page(
        "Schedules",
        "[Definitions and schedules](../schedules.md) explains what they mean.",
        ("cron", "every", "task_control_service", "TaskControlService", "TaskTriggerType"),
    ),
    "python-remote-workers": _Page(
        "Remote workers", "[Remote workers](../remote-workers.md) has examples.", ("RemoteWorker", "RemoteTask")
    ),
    "python-notifications": _Page(
        "Notifications",
        "[Notifications](../notifications.md#report-a-task-from-any-python-program) has examples.",
        ("task_notifier", "TaskProgressContext", "task_notification_service"),
    ),
    "python-files": _Page(
        "File processors", "[Files](../files.md) explains how they are used.", ("processor", "FileJob")
    ),
    "python-settings": _Page(
        "Settings",
        "[Settings](../settings.md) lists them all.",
        ("Settings", "load_settings"),
    ),
    "python-errors": _Page("Errors", "", ()),
}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name on the site and the text of each page."""
    for name, page in PAGES.items():
        parts = [f"# {page.title}\n", f"{page.intro}\n"]
        if name == "python-errors":
            parts = ["# Errors\n", "::: celeriac.errors\n    options: {show_root_heading: false}\n"]
        for one in page.names:
            parts.append(f"::: celeriac.{one}\n    options: {_OPTIONS.get(one, '{}')}\n")
        yield f"reference/{name}.md", "\n".join(parts)


def exported() -> set[str]:
    """Return the names of the public API, as `PAGES` has them; all errors are on their own page."""
    return {
        f"{module}.{name}".removeprefix("celeriac.")
        for module in MODULES
        for name in importlib.import_module(module).__all__
        if (module == "celeriac" or not hasattr(celeriac, name)) and not _is_error(getattr(celeriac, name, None))
    }


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, CeleriacError)
