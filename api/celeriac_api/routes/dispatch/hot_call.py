"""`POST /api/openai` for the server's protocol: the answers of `call.py` to callers who wait, for whole requests.

It takes requests that need nothing but a look at their headers. All others go the usual way, and so does every call
that is not valid: no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Scope

from celeriac.access.principal import LOCAL
from celeriac.errors import CeleriacError
from celeriac.settings import ServerSettings
from celeriac.store.watching.replies import CallEnd
from celeriac_api.access.browsers import HEADERS as SECURITY_HEADERS
from celeriac_api.dispatch.calls import CallerGoneError, SoonEnded
from celeriac_api.dispatch.requests import read_call, read_object
from celeriac_api.guard import Guard
from celeriac_api.http.hot_heads import AnyHead, Headers
from celeriac_api.http.hot_route import HotPath, lines_of
from celeriac_api.http.problems import problem_of
from celeriac_api.parts import STATE, Parts
from celeriac_api.routes.dispatch.call import PATH, asked_of, ended, refusal_of
from celeriac_api.routes.tasks.submit import check_headers

_OK: Final = b"HTTP/1.1 200 OK\r\n"
_RESULT: Final = lines_of(
    [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *SECURITY_HEADERS.items()]
)


class HotCalls(HotPath):
    """Serves the calls of one server whose callers wait. `served` counts what is being served, by kind."""

    def __init__(self, guard: Guard, served: dict[str, int], limits: ServerSettings, *, max_body_bytes: int) -> None:
        super().__init__(PATH, served, limits, max_body_bytes=max_body_bytes)
        self._guard = guard
        self._open: dict[Callable[[Any], None], SoonEnded] = {}

    def _meaning_of(self, headers: Headers) -> tuple[bool, bool] | None:
        """Return whether the next request may have the same head, twice; None if it has to go the usual way."""
        scope: Scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
        try:
            lasting = check_headers(headers, self._max_body_bytes, scope) is None
        except CeleriacError:
            return None
        return (lasting, lasting) if self._guard.fixes_headers(scope) else None

    def begin(self, head: AnyHead, body: bytes, state: dict[str, Any], heard: Callable[[Any], None]) -> bool:
        """See `HotRoute`."""
        if len(body) > self._max_body_bytes:
            return False
        parts: Parts = state[STATE]
        try:
            call = read_call(read_object(body), parts.settings.dispatch)
            if call.answer_at_once:
                return False
            asked = asked_of(parts.calls, call, LOCAL)
        except Exception:
            # The usual way says what is wrong.
            return False

        def end(outcome: CallEnd | Exception) -> None:
            del self._open[heard]
            if isinstance(outcome, CallerGoneError):
                heard(b"")  # nobody is there to read it
                return
            heard(refusal_of(outcome) if isinstance(outcome, Exception) else ended(asked.task_id, outcome))

        self._served["request"] += 1
        self._open[heard] = parts.calls.begin(asked, end)
        return True

    def hung_up(self, heard: Callable[[Any], None]) -> None:
        """See `HotRoute`."""
        if (one := self._open.get(heard)) is not None:
            one.hang_up()

    def answer(
        self, outcome: bytes | Response | Exception, common: Sequence[tuple[bytes, bytes]], *, close: bool
    ) -> bytes:
        """See `HotRoute`."""
        if common is not self._common:
            self._common = common
            self._begins = _OK + lines_of(common) + _RESULT
        if isinstance(outcome, bytes):
            closing = b"connection: close\r\n" if close else b""
            return b"%bcontent-length: %d\r\n%b\r\n%b" % (self._begins, len(outcome), closing, outcome)
        response = problem_of(outcome, PATH) if isinstance(outcome, Exception) else outcome
        headers = {**SECURITY_HEADERS, **dict(response.raw_headers)}
        return self.written(response.status_code, headers.items(), bytes(response.body), close=close)
