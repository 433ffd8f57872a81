"""Why a handler should stop, and how it learns of it."""

from __future__ import annotations

import asyncio


class Stoppable:
    """Something in a handler's hand that may be taken back: what `Context` and `RemoteTask` share."""

    def __init__(self) -> None:
        self._stop_reason: str | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop. An `async` one is cancelled besides; a plain function has to look."""
        return self._stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        """Why the handler should stop, or None."""
        return self._stop_reason

    def raise_if_cancelled(self) -> None:
        """Raise `asyncio.CancelledError` if the handler should stop. For loops in plain functions."""
        if self._stop_reason is not None:
            raise asyncio.CancelledError(self._stop_reason)

    def stop(self, reason: str) -> None:
        """Mark it as to be stopped; the first reason counts. Called by what runs the handler."""
        if self._stop_reason is None:
            self._stop_reason = reason
