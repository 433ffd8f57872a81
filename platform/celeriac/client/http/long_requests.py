"""Requests that are answered when a task has ended: how long they may take, as far as server and proxies allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from celeriac import json_text
from celeriac.client.http.api import Api
from celeriac.client.http.calls import Answer, Call, LostConnectionError
from celeriac.client.http.clock import Clock
from celeriac.client.http.retrying import retry_after_s
from celeriac.errors import JsonError

#: How long one request waits at most, and at least (seconds). Many proxies cut a request after 30 s or later.
_LONGEST_S: Final = 20.0
_SHORTEST_S: Final = 1.0
#: For how long nobody is asked to wait after the server said that it cannot: it is of an earlier version, or it has too
#: many callers that wait (seconds; the latter says it itself).
_UNABLE_S: Final = 60.0
_FULL_S: Final = 1.0


class LongRequests:
    """What one client knows of how long a request may wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._longest_s = _LONGEST_S
        self._not_before = float("-inf")

    def next_s(self, left_s: float | None = None) -> float:
        """Return how long the next request should wait, of the `left_s` that the caller has; 0 for not at all."""
        if self._clock.now() < self._not_before or (left_s is not None and left_s <= 0):
            return 0.0
        return self._longest_s if left_s is None else min(self._longest_s, left_s)

    async def answer(self, api: Api, call: Call) -> Answer | None:
        """Send a request that waits, once; None if it has to be sent again without a wait.

        An answer that says how the task is counts, and so does an error that has nothing to do with waiting.
        """
        began = self._clock.now()
        try:
            answer = await api.once(call)
        except LostConnectionError:
            self._cut_after(self._clock.now() - began)
            return None
        code = "" if answer.status < 400 else _code_of(answer)
        if answer.status < 300:
            if self._clock.now() - began >= self._longest_s:
                self._longest_s = min(2 * self._longest_s, _LONGEST_S)
            return answer
        if answer.status in (502, 504):
            self._cut_after(self._clock.now() - began)
        elif code == "too_many_waiters":
            self._pause(max(retry_after_s(answer.headers), _FULL_S))
        elif code == "invalid_request":
            # It waits less long, or not at all.
            self._shorten(self._longest_s / 4)
        elif answer.status == 404 and code != "task_not_found":
            self._pause(_UNABLE_S)
        elif answer.status < 500 and answer.status != 429:
            return answer
        return None

    def _cut_after(self, seconds: float) -> None:
        if seconds >= _SHORTEST_S:
            self._shorten(min(0.8 * seconds, self._longest_s))

    def _shorten(self, longest_s: float) -> None:
        if longest_s < _SHORTEST_S:
            self._pause(_UNABLE_S)
        self._longest_s = max(longest_s, _SHORTEST_S)

    def _pause(self, seconds: float) -> None:
        self._not_before = self._clock.now() + seconds


def waiting(call: Call, wait_s: float) -> Call:
    """Return the same request, with a wait of so many seconds."""
    return replace(call, query=(*call.query, ("wait", f"{wait_s:.3f}")), waits_s=wait_s)


def _code_of(answer: Answer) -> str:
    try:
        problem = json_text.read(answer.body)
    except JsonError:
        return ""
    return str(problem.get("code", "")) if isinstance(problem, dict) else ""
