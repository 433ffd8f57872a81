"""Waiting until the store is back: the one pause loop of all that may be repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from celeriac.errors import StoreRefusedError, StoreUnavailableError

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Pause before a store that is away is asked again (seconds).
PAUSE_S: Final = 0.25


async def until_back(
    step: Callable[[], Awaitable[T]],
    *,
    what: str,
    pause_s: float = PAUSE_S,
    on_away: Callable[[StoreUnavailableError], object] | None = None,
) -> T:
    """Do a step that may be repeated, again while the store is away, and return what it returns.

    `what` names the step in the log. `on_away` is called before the first pause. Other errors pass through, and so does
    a refusal that would come again (`StoreRefusedError`).
    """
    while True:
        try:
            return await step()
        except StoreRefusedError:
            raise
        except StoreUnavailableError as exc:
            log.debug("%s waits for the store: %s", what, exc)
            if on_away is not None:
                on_away(exc)
                on_away = None
            await asyncio.sleep(pause_s)
