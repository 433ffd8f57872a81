# Generated from ../asynchronous/api.py by tools/generate_sync_client.py: edit that file and run `make client`.
"""The HTTP API: sends a request until an answer comes that counts, and reads the answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celeriac.client.calls import Answer, Call, LostConnectionError, task_path
from celeriac.client.clock import Clock
from celeriac.client.outputs import document_of, error_of, member, status_of
from celeriac.client.retrying import TRANSIENT, Retrying, retry_after_s
from celeriac.errors import ApiUnavailableError
from celeriac.model import Status

if TYPE_CHECKING:
    from celeriac.client.generated_blocking.wire import Stream, Wire

T = TypeVar("T")

_CLOCK: Final = Clock()


class Api:
    """Sends requests to the API at `url`, and repeats those that may succeed later."""

    def __init__(
        self,
        url: str,
        wire: Wire,
        retrying: Retrying,
        *,
        new_key: Callable[[], str] = lambda: secrets.token_urlsafe(24),
        clock: Clock = _CLOCK,
    ) -> None:
        self.url = url
        self.retrying = retrying
        self.clock = clock
        #: Returns a new idempotency key.
        self.new_key = new_key
        self._wire = wire

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._wire.close()

    def exchange(self, call: Call, give_up_at: float | None = None) -> Answer:
        """Send a request until an answer comes that is not transient, and return that answer.

        Raises the error of the last try when the retries are used up, or when the next try would come after
        `give_up_at`, a time of the clock.
        """
        failures = 0
        while True:
            failures += 1
            try:
                answer = self._wire.send(call)
            except LostConnectionError as exc:
                pause_s = self._pause_s(failures, 0.0, give_up_at)
                if pause_s is None:
                    raise ApiUnavailableError(self.url, str(exc)) from exc
            else:
                if answer.status not in TRANSIENT:
                    return answer
                pause_s = self._pause_s(failures, retry_after_s(answer.headers), give_up_at)
                if pause_s is None:
                    raise error_of(answer)
            self.clock.sleep(pause_s)

    def opened(self, call: Call) -> AbstractContextManager[Stream]:
        """Send a request once, and leave its body to be read; raises `LostConnectionError`."""
        return self._wire.opened(call)

    def document(self, call: Call, give_up_at: float | None = None) -> dict[str, Any]:
        """Send a request as `exchange` does and return the JSON object of its answer."""
        return document_of(self.exchange(call, give_up_at))

    def act(self, call: Call) -> tuple[str, Status]:
        """Send a request that makes or changes a task; return the task's id and its status."""
        document = self.document(call)
        return str(member(document, "task_id", str)), status_of(document)

    def status(self, task_id: str, give_up_at: float | None = None) -> Status:
        """Return the status of a task without its record, which may be large."""
        return status_of(self.document(Call("GET", f"{task_path(task_id)}/progress"), give_up_at))

    def items(
        self,
        path: str,
        query: tuple[tuple[str, str], ...],
        item_of: Callable[[Mapping[str, Any]], T],
        *,
        page_size: int,
        limit: int | None = None,
    ) -> Generator[T]:
        """Yield the items of a listing, at most `limit`. A page is read when its first item is needed."""
        left = limit
        cursor: tuple[tuple[str, str], ...] = ()
        while left is None or left > 0:
            size = page_size if left is None else min(page_size, left)
            page = self.document(Call("GET", path, query=(*query, ("limit", str(size)), *cursor)))
            records = member(page, "items", list)
            for record in records:
                yield item_of(record)
            if page.get("next_cursor") is None:
                return
            cursor = (("cursor", page["next_cursor"]),)
            left = None if left is None else left - len(records)

    def _pause_s(self, failures: int, asked_s: float, give_up_at: float | None) -> float | None:
        """Return how long to wait before the next try, None to give up."""
        pause_s = self.retrying.pause_s(failures, asked_s)
        too_late = pause_s is not None and give_up_at is not None and self.clock.now() + pause_s > give_up_at
        return None if too_late else pause_s
