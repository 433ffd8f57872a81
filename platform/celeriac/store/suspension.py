"""What an attempt waits for while it is suspended, what its task has kept meanwhile, and how both look in the store.

`lua/shared/suspension.lua` describes the keys. `TaskStore` has the calls: `note_step`, `suspend` and `signal`;
`StoreReader` has the lookups: `kept`, `steps` and `waits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import Awaited, AwaitedSignal, AwaitedTime, Dependency, When, utc_from_ms
from celeriac.model import Kept as Kept
from celeriac.model import Noted as Noted
from celeriac.model import Wait as Wait
from celeriac.model import WaitForSignal as WaitForSignal
from celeriac.model import WaitForTask as WaitForTask
from celeriac.model import WaitUntil as WaitUntil

#: How the names of signals and sleeps begin among what a task waits for.
_SIGNAL, _SLEEP = "signal:", "sleep:"


class KeptStep(NamedTuple):
    """A finished step of a task. `size` is the length of its result as JSON (bytes), `number` its place in a list."""

    name: str
    started_at: datetime
    finished_at: datetime
    size: int
    result: Any
    number: int


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A signal that a task waits for, for those who may send it."""

    task_id: str
    type: str
    user_id: str | None
    signal: str
    since: datetime
    title: str | None
    schema: Mapping[str, Any] | bool | None
    #: Who may signal besides the owner and admins.
    users: tuple[str, ...]
    expires_at: datetime | None


def noted_from(entry: str) -> Noted:
    """Return an entry of the hash of steps."""
    number, began_ms, noted_ms, value = entry.split(" ", 3)
    return Noted(int(number), int(began_ms), int(noted_ms), value)


def signal_from(entry: str) -> Noted:
    """Return an entry of the hash of signals."""
    number, _, received_ms, value = entry.split(" ", 3)
    return Noted(int(number), int(received_ms), int(received_ms), value)


def steps_from(entries: Mapping[str, str]) -> list[KeptStep]:
    """Return the finished steps among what a task keeps, in the order of their ends."""
    found = {name.removeprefix("step:"): noted_from(text) for name, text in entries.items() if name.startswith("step:")}
    return [
        KeptStep(
            name=name,
            started_at=utc_from_ms(one.began_ms),
            finished_at=utc_from_ms(one.noted_ms),
            size=len(one.value.encode()),
            result=json_text.read(one.value),
            number=one.number,
        )
        for name, one in sorted(found.items(), key=lambda pair: pair[1].number)
    ]


def awaited_from(open_items: Mapping[str, str]) -> tuple[Awaited, ...]:
    """Return what a task waits for: tasks, then signals, then times."""
    tasks: list[Dependency] = []
    signals: list[AwaitedSignal] = []
    times: list[AwaitedTime] = []
    for name, text in sorted(open_items.items()):
        if text.startswith("{"):
            question = question_from(text)
            signals.append(
                AwaitedSignal(
                    name.removeprefix(_SIGNAL),
                    question.get("title"),
                    schema_of(question),
                    moment_of(question),
                )
            )
        elif text.isdecimal():
            times.append(AwaitedTime(utc_from_ms(int(text))))
        else:
            with suppress(ValueError):
                tasks.append(Dependency(name, When(text)))
    return (*tasks, *signals, *times)


def question_from(text: str) -> dict[str, Any]:
    """Return the question of a signal that a task waits for; {} if it cannot be read."""
    try:
        found = json_text.read(text)
    except JsonError:
        return {}
    return found if isinstance(found, dict) else {}


def schema_of(question: Mapping[str, Any]) -> Any:
    """Return the JSON Schema of a question, None if it has none."""
    text = question.get("schema")
    return None if text is None else json_text.read(text)


def moment_of(question: Mapping[str, Any]) -> datetime | None:
    """Return when the time of a question is over, None if it has no such moment."""
    expires_ms = question.get("expires_ms")
    return None if expires_ms is None else utc_from_ms(expires_ms)
