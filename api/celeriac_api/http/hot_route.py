"""What hot routes have in common: the heads that they know, what they count, and how a response is written."""

from __future__ import annotations

import http
from collections.abc import Iterable, Sequence
from typing import Any

from celeriac.settings import ServerSettings
from celeriac_api.http.hot_heads import Headers, HotHeads
from celeriac_api.http.problems import STOPPED, RequestError


class HotPath:
    """Serves whole `POST` requests to one path. `served` counts what is being served, by kind.

    A route says in `meaning_of` what a head means (see `HotHeads`).
    """

    def __init__(self, path: str, served: dict[str, int], limits: ServerSettings, *, max_body_bytes: int) -> None:
        self._served = served
        self._max_body_bytes = max_body_bytes
        self._heads: HotHeads[Any] = HotHeads(
            path,
            self._meaning_of,
            max_bytes=min(limits.max_field_bytes, limits.max_url_bytes, limits.max_head_bytes),
            max_fields=limits.max_head_fields,
        )
        self.find = self._heads.find
        #: The headers that all answers have at present, and the beginning of a usual answer with them.
        self._common: Sequence[tuple[bytes, bytes]] = ()
        self._begins = b""

    def _meaning_of(self, headers: Headers) -> tuple[Any, bool] | None:
        raise NotImplementedError

    def ended(self) -> None:
        """See `HotRoute`."""
        self._served["request"] -= 1

    def stopping(self) -> Exception:
        """See `HotRoute`."""
        return RequestError("stopping", STOPPED)

    def written(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, close: bool) -> bytes:
        """Return a whole response that is not a usual one."""
        return b"HTTP/1.1 %d %b\r\n%b%b%b\r\n%b" % (
            status,
            http.HTTPStatus(status).phrase.encode(),
            lines_of(self._common),
            lines_of(headers),
            b"connection: close\r\n" if close else b"",
            body,
        )


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the lines of headers in a response."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)
