"""The HTTP API: sends a request until an answer comes that counts, and reads the answer."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celeriac.client.http.calls import Answer, Call, LostConnectionError, task_path
from celeriac.client.http.clock import Clock
from celeriac.client.http.retrying import TRANSIENT, Retrying, retry_after_s
from celeriac.client.outputs import document_of, error_of, member, status_of
from celeriac.errors import ApiUnavailableError
from celeriac.model import Status

if TYPE_CHECKING:
    from celeriac.client.http.wire import Stream, Wire

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

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._wire.close()

    async def exchange(self, call: Call, give_up_at: float | None = None) -> Answer:
        """Send a request until an answer comes that is not transient, and return that answer.

        Raises the error of the last try when the retries are used up, or when the next try would come after
        `give_up_at`, a time of the clock.
        """
        failures = 0
        while True:
            failures += 1
            try:
                answer = await self._wire.send(call)
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
            await self.clock.sleep(pause_s)

    async def once(self, call: Call) -> Answer:
        """Send a request a single time; raises `LostConnectionError`."""
        return await self._wire.send(call)

    def opened(self, call: Call) -> AbstractAsyncContextManager[Stream]:
        """Send a request once, and leave its body to be read; raises `LostConnectionError`."""
        return self._wire.opened(call)

    async def document(self, call: Call, give_up_at: float | None = None) -> dict[str, Any]:
        """Send a request as `exchange` does and return the JSON object of its answer."""
        return document_of(await self.exchange(call, give_up_at))

    async def act(self, call: Call) -> tuple[str, Status]:
        """Send a request that makes or changes a task; return the task's id and its status."""
        document = await self.document(call)
        return str(member(document, "task_id", str)), status_of(document)

    async def status(self, task_id: str, give_up_at: float | None = None) -> Status:
        """Return the status of a task without its record, which may be large."""
        return status_of(await self.document(Call("GET", f"{task_path(task_id)}/progress"), give_up_at))

    async def items(
        self,
        path: str,
        query: tuple[tuple[str, str], ...],
        item_of: Callable[[Mapping[str, Any]], T],
        *,
        page_size: int,
        limit: int | None = None,
    ) -> AsyncGenerator[T]:
        """Yield the items of a listing, at most `limit`. A page is read when its first item is needed."""
        left = limit
        cursor: tuple[tuple[str, str], ...] = ()
        while left is None or left > 0:
            size = page_size if left is None else min(page_size, left)
            page = await self.document(Call("GET", path, query=(*query, ("limit", str(size)), *cursor)))
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
