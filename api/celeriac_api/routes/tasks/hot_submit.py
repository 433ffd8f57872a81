"""`POST /api/v1/tasks` for the server's protocol: the answers of `submit.py`, for whole requests of the usual kind.

It takes requests that need nothing but a look at their headers, with the plain submissions of task types of this
process (see `PlainSubmissions`). All others go the usual way, so no rule is written twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.types import Scope

from celeriac import json_text
from celeriac.errors import CeleriacError, JsonError
from celeriac.model import Reason, Submitted
from celeriac.settings import ServerSettings
from celeriac_api.guard import Guard
from celeriac_api.http.hot_heads import AnyHead, Headers
from celeriac_api.http.hot_route import HotPath, lines_of
from celeriac_api.http.problems import problem_of
from celeriac_api.parts import STATE, Parts
from celeriac_api.routes.tasks.submit import FIXED_HEADERS, PATH, answered, check_headers, warned

log = logging.getLogger(__name__)

_ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\n"


class HotSubmissions(HotPath):
    """Serves the submissions of one server. `served` counts what is being served, by kind."""

    def __init__(self, guard: Guard, served: dict[str, int], limits: ServerSettings, *, max_body_bytes: int) -> None:
        super().__init__(PATH, served, limits, max_body_bytes=max_body_bytes)
        self._guard = guard
        self._fixed = lines_of(FIXED_HEADERS)
        #: The warnings of the last answer that had some, and the end of its body.
        self._warnings: tuple[Reason, ...] = ()
        self._warned = b""

    def _meaning_of(self, headers: Headers) -> tuple[tuple[str | None], bool] | None:
        """Return the idempotency key, and whether the next request may have the same head."""
        scope: Scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
        try:
            key = check_headers(headers, self._max_body_bytes, scope)
        except CeleriacError:
            return None
        return ((key,), key is None) if self._guard.plain(scope) else None

    def begin(self, head: AnyHead, body: bytes, state: dict[str, Any], heard: Callable[[Any], None]) -> bool:
        """See `HotRoute`."""
        if len(body) > self._max_body_bytes:
            return False
        try:
            document = json_text.read(body)
        except JsonError:
            return False
        parts: Parts = state[STATE]
        try:
            begun = parts.tasks.submit_soon(document, heard, idempotency_key=head.meaning[0])
        except Exception:
            # The usual way says what is wrong: a type's own validator may raise anything.
            return False
        if begun:
            self._served["request"] += 1
        return begun

    def hung_up(self, heard: Callable[[Any], None]) -> None:
        """See `HotRoute`: what was submitted runs, although no client is there to read its id."""

    def answer(self, outcome: Submitted | Exception, common: Sequence[tuple[bytes, bytes]], *, close: bool) -> bytes:
        """See `HotRoute`."""
        if common is not self._common:
            self._common = common
            self._begins = _ACCEPTED + lines_of(common) + self._fixed + b"content-length: "
        if not isinstance(outcome, Submitted) or not outcome.created or close:
            return self._rare_answer(outcome, close=close)
        if outcome.warnings is not self._warnings:
            self._warnings = outcome.warnings
            self._warned = json_text.encode(warned(outcome))[1:-1]
        # An id that was made here needs no escaping.
        task_id, status = outcome.task_id.encode(), outcome.status.value.encode()
        more = b",%b" % self._warned if self._warned else b""
        body = b'{"task_id":"%b","status":"%b"%b}' % (task_id, status, more)
        return b"%b%d\r\nlocation: %b/%b\r\n\r\n%b" % (self._begins, len(body), _PATH, task_id, body)

    def _rare_answer(self, outcome: Submitted | Exception, *, close: bool) -> bytes:
        if isinstance(outcome, Submitted):
            status, headers, body = answered(outcome, "")
        else:
            if not isinstance(outcome, CeleriacError):
                log.error("a submission failed unexpectedly", exc_info=outcome)
            response = problem_of(outcome, PATH)
            status, headers, body = response.status_code, response.raw_headers, bytes(response.body)
        return self.written(status, headers, body, close=close)


_PATH: Final = PATH.encode()
