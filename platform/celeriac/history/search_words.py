"""The words of a task that the search finds, from its row and its events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.secret_fields import FIELD, masked
from celeriac.store.watching.feed import LOG
from celeriac.task_query import tokens_of

#: What the pages call, in the metadata of a task that runs another one again, the id of that one.
COPY_OF: Final = "copy_of"
#: Encoded files, keys and the like: nobody searches for them, and they would fill the index.
_LONG: Final = 200
_NO_WORDS: Final = re.compile(rf"[A-Za-z0-9+/=_-]{{{_LONG},}}")


def words_of(row: Mapping[str, Any], messages: Iterable[str], parts: Sequence[str], most: int) -> list[str]:
    """Return the words of up to `most` characters of a task; `messages` are those of its events.

    What is short and tells tasks apart comes first. Only the values of payload and result count, and no secret does.
    """
    taken: list[str] = []
    left = most
    for part in _texts(row, messages, parts):
        text = part if len(part) < _LONG else _NO_WORDS.sub(" ", part[: left + _LONG])
        taken.append(text[:left])
        left -= len(text)
        if left <= 0:
            break
    # Each text by itself: words of two texts have a space between them.
    return tokens_of("\n".join(taken))


def fields_of(text: str) -> Mapping[str, str]:
    """Return the fields of an event; none if they cannot be read."""
    fields = _read(text)
    return fields if isinstance(fields, dict) else {}


def message_of(kind: str, fields: Mapping[str, str], parts: Sequence[str]) -> str:
    """Return the text of an event that is searched; empty if none is."""
    if kind == LOG and "log" in parts:
        return f"{fields.get('message', '')}\n{' '.join(_values(_read(fields.get('data'))))}"
    if kind == "progress" and "progress" in parts:
        return f"{fields.get('stage', '')}\n{fields.get('message', '')}"
    if kind == "status" and "error" in parts:
        return f"{fields.get('code', '')}\n{fields.get('message', '')}"
    return ""


def _texts(row: Mapping[str, Any], messages: Iterable[str], parts: Sequence[str]) -> Iterator[str]:
    yield row["type"]
    if row["key"]:
        yield row["key"]
    if row["tags"]:
        yield from _values(_read(row["tags"]))
    if COPY_OF in (row["metadata"] or ""):
        metadata = _read(row["metadata"])
        yield from _values(metadata.get(COPY_OF) if isinstance(metadata, dict) else None)
    if "error" in parts and (row["error_code"] or row["error_message"]):
        yield row["error_code"] or ""
        yield row["error_message"] or ""
    if "payload" in parts:
        payload = _read(row["payload"])
        yield from _values(masked(payload, _secrets(row["extra"])) if row["extra"] else payload)
    if "result" in parts and row["result"]:
        yield from _values(_read(row["result"]))
    if "progress" in parts and row["progress_ms"] is not None:
        yield row["stage"] or ""
        yield row["progress_message"] or ""
    yield from messages


def _secrets(extra: str | None) -> list[str]:
    fields = _read(extra)
    paths = fields.get(FIELD) if isinstance(fields, dict) else None
    return paths.split("\n") if isinstance(paths, str) else []


def _read(text: str | None) -> Any:
    try:
        return json_text.read(text) if text else None
    except JsonError:  # a foreign program's
        return None


def _values(document: Any) -> Iterator[str]:
    """Yield the texts and numbers of a JSON document in their order."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield str(value)
