"""What lists call a task: a title made of its payload, so that one can tell tasks of one type apart.

A type may have a template, `@task(title="order {order}")`. Without one, the title is made of the first values of the
payload: "customer 7 · pages 10".
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from celeriac import json_text
from celeriac.errors import JsonError, SettingsError, StoreUnavailableError
from celeriac.model import Task
from celeriac.secret_fields import FIELD, MASK, masked
from celeriac.tasks.key_source import PayloadPath, announced_path, payload_path

if TYPE_CHECKING:
    from celeriac.tasks.catalog import TypeCatalog

#: Longest title, and longest value in one that has no template (characters).
TITLE_CHARACTERS: Final = 120
_VALUE_CHARACTERS: Final = 40
#: Values that a title without a template shows.
_VALUES: Final = 4
#: Longest template (characters), and longest payload that a title is made of (bytes).
_TEMPLATE_CHARACTERS: Final = 500
PAYLOAD_BYTES: Final = 64 * 1024
#: How old the templates that workers announce may be (seconds).
_FRESH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class TitleTemplate:
    """A text with places for values of the payload: each text with the path whose value follows it, or None."""

    parts: tuple[tuple[str, PayloadPath | None], ...]

    def title(self, payload: Any) -> str:
        """Return the title of a payload; what it does not have is left empty."""
        return "".join(text + ("" if path is None else _value(path.found(payload, None))) for text, path in self.parts)

    def announced(self) -> list[Any]:
        """Return it as workers announce it: `announced_title` reads it."""
        return [[text, None if path is None else path.announced()] for text, path in self.parts]


def announced_title(about: object) -> TitleTemplate | None:
    """Return the template that a worker announced, None for anything else."""
    parts = []
    for part in about if isinstance(about, list) else ():
        if not isinstance(part, list) or len(part) != 2 or not isinstance(part[0], str):
            return None
        parts.append((part[0], announced_path(part[1])))
    return TitleTemplate(tuple(parts)) if parts else None


def title_template(name: str, text: str | None, payload: TypeAdapter[Any]) -> TitleTemplate | None:
    """Return what `@task(title=...)` means for the type `name`.

    Raises `SettingsError` for what is not a template, for a field that the payload does not have and for a secret one.
    """
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip() or len(text) > _TEMPLATE_CHARACTERS:
        raise SettingsError(
            f"task type {name!r}: title={text!r:.80} is not a text of up to {_TEMPLATE_CHARACTERS} characters, such as "
            "'order {order}'"
        )
    return TitleTemplate(tuple(_parts(name, text, payload)))


def _parts(name: str, text: str, payload: TypeAdapter[Any]) -> Iterator[tuple[str, PayloadPath | None]]:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as exc:
        raise SettingsError(
            f"task type {name!r}: title={text!r}: {exc}; write a brace that is none of a field twice"
        ) from exc
    for literal, path, form, conversion in parsed:
        if form or conversion:
            raise SettingsError(f"task type {name!r}: title={text!r}: write {{{path}}} without a format")
        yield literal, None if path is None else payload_path(name, path, payload, "title")


def title_of(template: TitleTemplate | None, payload: Any) -> str | None:
    """Return the title of a payload (JSON, its secrets masked); None if it has nothing to say."""
    title = " ".join(template.title(payload).split()) if template is not None else ""
    return _cut(title or " · ".join(_values(payload)), TITLE_CHARACTERS) or None


def _values(payload: Any) -> Iterator[str]:
    if not isinstance(payload, dict):
        return
    if payload.keys() <= {"args", "kwargs"} and isinstance(args := payload.get("args", []), list):
        # The arguments of a plain Celery task.
        if shown := [_cut(text, _VALUE_CHARACTERS) for one in args[:_VALUES] if (text := _scalar(one))]:
            yield ", ".join(shown)
        payload = payload.get("kwargs")
    left = _VALUES
    for name, one in payload.items() if isinstance(payload, dict) else ():
        if text := _scalar(one):
            yield f"{str(name).replace('_', ' ')} {_cut(text, _VALUE_CHARACTERS)}"
            left -= 1
            if not left:
                return


def _scalar(value: Any) -> str:
    return "" if isinstance(value, dict | list | tuple) else _value(value)


def _value(value: Any) -> str:
    """Return a value in one line; nothing for null, and for a secret."""
    if value is None or value == MASK:
        return ""
    if type(value) is int:
        return str(value)
    text = value[: 2 * TITLE_CHARACTERS] if isinstance(value, str) else json_text.write(value)
    return " ".join(text.split())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


class Titles:
    """Makes the titles of tasks, by the templates of this process and those that running workers announce."""

    def __init__(self, types: TypeCatalog) -> None:
        self._types = types

    async def ready(self) -> None:
        """Read the templates again if they may have changed; without the store, those that are known count."""
        with suppress(StoreUnavailableError):
            await self._types.all(max_age_s=_FRESH_S)

    def of_record(self, record: Mapping[str, str]) -> str | None:
        """Return the title of a task by its record in the store; None for a payload that is long or damaged."""
        text = record.get("payload", "")
        if not text or len(text) > PAYLOAD_BYTES:
            return None
        try:
            payload = json_text.read(text)
        except JsonError:
            return None
        paths = record.get(FIELD)
        return self._of(record.get("type", ""), masked(payload, paths.split("\n")) if paths else payload)

    async def add(self, task: Task) -> Task:
        """Return the task with its title."""
        if task.title is not None:
            return task
        if self._types.local_with(task.type) is None:
            await self.ready()
        return replace(task, title=self._of(task.type, masked(task.payload, task.secret_fields)))

    def _of(self, name: str, payload: Any) -> str | None:
        task_type = self._types.known.get(name)
        return title_of(None if task_type is None else task_type.title_template, payload)
