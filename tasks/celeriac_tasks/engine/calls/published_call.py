"""A published call of a Celery task: its message, and the arguments in it, in whatever serializer it is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from kombu import serialization
from kombu.exceptions import ContentDisallowed, DecodeError

from celeriac import json_text
from celeriac.errors import JsonError

#: The content type of the messages that the platform builds, and what they say.
JSON: Final = "application/json"
EMPTY_BODY: Final[tuple[Any, ...]] = ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
#: Something that Celery embeds; without it, all four are null.
_EMBEDDED: Final = re.compile(r'"(?:callbacks|errbacks|chain|chord)": *(?!null)[\[{]')


@dataclass(frozen=True)
class PublishedCall:
    """A published call of a Celery task, with its `body` decompressed.

    `accept` is the app's `accept_content`: the names and content types of the serializers that it reads.
    """

    headers: Mapping[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    properties: Mapping[str, Any]
    #: The body as it was sent, in base64, which its headers describe; None if it was sent otherwise.
    encoded: str | None = None

    def arguments(self, accept: Collection[str]) -> tuple[list[Any], dict[str, Any]]:
        """Return (args, kwargs); raises kombu's `ContentDisallowed` if they are not acceptable, or `DecodeError`."""
        head, _ = self._parts
        if head is not None and '"__type__"' not in head and JSON in serialization.prepare_accept_content(accept):
            # What is odd in it is told by the place when the payload is written.
            with suppress(JsonError):
                args, kwargs = json_text.read(head)
                return list(args), dict(kwargs)
        args, kwargs, *_ = self._read(accept)
        return list(args), dict(kwargs)

    def whole(self, accept: Collection[str]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        """Return (args, kwargs, embed), embed being what Celery does at the end of the task; raises as `arguments`."""
        args, kwargs, embed = self._read(accept)
        return list(args), dict(kwargs), dict(embed or {})

    def in_canvas(self, accept: Collection[str]) -> bool:
        """Whether the call has callbacks, or belongs to a chain or chord."""
        _, embedded = self._parts
        if embedded is None:
            *_, found = self._read(accept)
            return any((found or {}).values())
        return _EMBEDDED.search(embedded) is not None

    def embedded(self, accept: Collection[str]) -> Mapping[str, Any]:
        """Return what Celery does at the end of the task (see `whole`), nothing if that is not readable."""
        _, embedded = self._parts
        if embedded is None:
            with suppress(ContentDisallowed, DecodeError, ValueError):
                *_, found = self._read(accept)
                return found or {}
            return {}
        if _EMBEDDED.search(embedded) is None:
            return {}
        with suppress(JsonError):
            found = json_text.read(embedded.strip().removeprefix(",").removesuffix("]"))
            return found if isinstance(found, Mapping) else {}
        return {}

    def _read(self, accept: Collection[str]) -> Any:
        accepted = serialization.prepare_accept_content(accept)
        try:
            return serialization.loads(self.body, self.content_type, self.content_encoding, accepted)
        except ContentDisallowed as exc:
            names = ", ".join(sorted(accept))
            raise ContentDisallowed(
                f"the call {self.headers['task']} is written as {self.content_type}, which `accept_content` ({names})"
                " does not contain: add it there if you trust all who can publish, or choose another `serializer`"
            ) from exc

    @cached_property
    def _parts(self) -> tuple[str | None, str | None]:
        """The arguments (a JSON list of two) and what Celery embeds beside them; two times None if it is not JSON.

        The latter is not read: it may hold the thousands of links that follow in a chain.
        """
        if self.content_type != JSON:
            return None, None
        try:
            text = self.body.decode(self.content_encoding)
            end = json_text.after_items(text, 2)
        except (ValueError, LookupError):
            return None, None
        return f"{text[:end]}]", text[end:]
