"""What a caller should know of a task that was accepted: at present nobody takes it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from celeriac.errors import CeleriacError
from celeriac.model import Delivery, Reason
from celeriac.tasks.why import no_worker

if TYPE_CHECKING:
    from celeriac.store.takers import Takers
    from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: How old the list of workers may be (seconds), and how old if it is the reason of a warning: a worker that has just
#: started should count at once.
FRESH_S: Final = 1.0
_DOUBTED_S: Final = 0.3
#: Reading takes at most one part in this many of the time, however many workers there are.
_SHARE: Final = 20
#: A submission waits this long for the list, and then goes without a warning (seconds).
_PATIENCE_S: Final = 1.0


class Warnings:
    """Warns of tasks that no living worker takes. It belongs to one event loop.

    The list of workers is read at most once a second or so, for all submissions together, while a submission is on its
    way to the store.
    """

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._takers: Takers | None = None
        self._read_at = float("-inf")
        self._took_s = 0.0
        self._reading: asyncio.Task[None] | None = None
        #: The warnings of the list, by group, type and delivery.
        self._found: dict[tuple[str, str, str], tuple[Reason, ...]] = {}

    def prepare(self) -> None:
        """Begin to read the list if it is old; nobody waits for that yet."""
        if self._older_than(FRESH_S):
            self._read_soon()

    def known(self, group: str, task_type: str, delivery: str) -> tuple[Reason, ...] | None:
        """Return the warnings of a task, None if that takes a look: call `of` then."""
        if self._takers is None:
            # The store did not answer a moment ago, or nobody has asked yet.
            return None if self._older_than(FRESH_S) else ()
        place = (group, task_type, delivery)
        found = self._found.get(place)
        if found is None:
            found = self._found[place] = warnings_of(self._takers, *place)
        return None if self._older_than(_DOUBTED_S if found else 2 * FRESH_S) else found

    async def of(self, group: str, task_type: str, delivery: str) -> tuple[Reason, ...]:
        """Return the warnings of a task; none if the store does not answer soon."""
        known = self.known(group, task_type, delivery)
        if known is not None:
            return known
        reading = self._read_soon()
        await asyncio.wait([reading], timeout=_PATIENCE_S)
        if self._takers is None or not reading.done():
            return ()
        return warnings_of(self._takers, group, task_type, delivery)

    def _older_than(self, seconds: float) -> bool:
        age_s = asyncio.get_running_loop().time() - self._read_at
        return age_s > max(seconds, _SHARE * self._took_s)

    def _read_soon(self) -> asyncio.Task[None]:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="read-takers")
        return self._reading

    async def _read(self) -> None:
        # Imported here: programs that only submit do not need the store's readers.
        from celeriac.store.takers import read_takers

        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._takers = await read_takers(self._store)
            self._found = {}
        except CeleriacError as exc:
            self._takers, self._found = None, {}
            log.debug("who takes tasks is not known: %s", exc)
        finally:
            self._reading = None
            self._read_at = loop.time()
            self._took_s = self._read_at - began


def warnings_of(takers: Takers, group: str, task_type: str, delivery: str) -> tuple[Reason, ...]:
    """Return what to say of a task, by who takes tasks now."""
    if delivery == Delivery.EXTERNAL:
        return ()
    serving, knowing = takers.count(group, task_type, delivery)
    if knowing:
        return ()
    drained = takers.drained(group, delivery)
    return (no_worker(group, task_type, delivery, serving=serving, drained=drained),)
