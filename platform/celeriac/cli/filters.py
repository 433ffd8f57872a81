"""The options that select tasks. They are the same for every command that takes a filter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from celeriac.cli import completing
from celeriac.cli.options import with_options
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.model import Status
from celeriac.moments import bounded
from celeriac.settings import parse_duration_s
from celeriac.task_filter import TaskFilter, read_filter

_PANEL: Final = "Which tasks"
_WHEN: Final = "WHEN"


def _option(help_text: str, *names: str, metavar: str | None = None, completed: Any = None) -> Any:
    return typer.Option(
        *names,
        help=help_text,
        metavar=metavar,
        rich_help_panel=_PANEL,
        show_default=False,
        autocompletion=completed,
    )


def _statuses(incomplete: str) -> list[str]:
    return [status.wire for status in Status if status.wire.startswith(incomplete)]


#: By the names of `TaskFilter`. A moment is written as in RFC 3339, or as a duration before now.
_OPTIONS: Final[dict[str, Any]] = {
    "status": Annotated[
        list[str] | None,
        _option("Its status. Repeat the option, or separate several by commas.", "-s", "--status", completed=_statuses),
    ],
    "type": Annotated[str | None, _option("Its type.", "-t", "--type", completed=completing.task_types)],
    "queue": Annotated[
        str | None, _option("Its group.", "--group", "-g", "--queue", metavar="GROUP", completed=completing.groups)
    ],
    "user_id": Annotated[str | None, _option("The user that it belongs to.", "--user-id", metavar="ID")],
    "key": Annotated[
        str | None, _option("The key that it has: a customer, a tenant, a resource.", "--key", metavar="KEY")
    ],
    "definition_id": Annotated[
        str | None,
        _option("The definition that made it.", "--definition-id", metavar="ID", completed=completing.definition_ids),
    ],
    "workflow_id": Annotated[str | None, _option("The workflow that it is a part of.", "--workflow-id", metavar="ID")],
    "error_group": Annotated[
        str | None,
        _option("The group of its last failure, as `celeriac errors` shows it.", "--error-group", metavar="ID"),
    ],
    "tag": Annotated[
        list[str] | None,
        _option("A tag that it has. Repeat the option to name several: it has all of them.", "--tag", metavar="TAG"),
    ],
    "created_after": Annotated[
        str | None,
        _option(
            "Created at or after this moment: 2030-01-31T08:00:00Z, or 2h for two hours ago.",
            "--created-after",
            metavar=_WHEN,
        ),
    ],
    "created_before": Annotated[str | None, _option("Created before this moment.", "--created-before", metavar=_WHEN)],
    "finished_after": Annotated[
        str | None, _option("Ended at or after this moment.", "--finished-after", metavar=_WHEN)
    ],
    "finished_before": Annotated[str | None, _option("Ended before this moment.", "--finished-before", metavar=_WHEN)],
    "q": Annotated[
        str | None,
        _option(
            "Words and fields, e.g. 'status:failed -type:report key:7 \"two words\"'. One word may be the beginning of "
            "an id.",
            "-q",
            "--search",
            metavar="TEXT",
        ),
    ],
}


#: A search as the arguments of a command that lists.
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SEARCH", help="A search, as --search takes it. Put it in quotation marks.", show_default=False
    ),
]


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the filter. Its parameter `chosen` receives what they select."""
    return with_options(command, _OPTIONS, "chosen", lambda given: read_options(given, datetime.now(UTC)))


def read_options(given: dict[str, Any], now: datetime) -> TaskFilter:
    """Return the filter that the options describe; raises `InvalidSubmissionError`."""
    return read_filter(
        {
            name: moment(value, now) if name.endswith(("_after", "_before")) else value
            for name, value in given.items()
            if value
        }
    )


def narrowed(chosen: TaskFilter, words: list[str] | None) -> TaskFilter:
    """Return the filter with a search besides the one that it may have; raises `InvalidSubmissionError`."""
    if not words:
        return chosen
    both = " ".join([*([chosen.q] if chosen.q else []), *words])
    return read_filter({**chosen.model_dump(exclude_defaults=True), "q": both})


def read_moment(name: str, text: str, now: datetime) -> datetime:
    """Return the value of an option that is a moment or a duration before `now`; raises `InvalidSubmissionError`."""
    value = moment(text, now)
    with contextlib.suppress(ValueError):
        return bounded(value if isinstance(value, datetime) else datetime.fromisoformat(value))
    message = (
        f"{text[:100]!r} is neither a duration such as 2h nor a moment from 1970 to 2999 with a time zone, such as "
        "2030-01-31T08:00:00Z"
    )
    raise InvalidSubmissionError([Violation(name, message)])


def moment(text: str, now: datetime) -> datetime | str:
    """Return the moment that lies a duration before `now`; other texts are returned as they are."""
    try:
        return now - timedelta(seconds=parse_duration_s(text))
    except (ValueError, OverflowError):
        return text
