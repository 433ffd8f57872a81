"""Publishes the messages of tasks whose broker is not the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.previews import read_previews
from celeriac_tasks.engine.brokers.broker import Broker, Outgoing
from celeriac_tasks.engine.calls.hints import SHOWN_BYTES, is_short, written_out
from celeriac_tasks.engine.calls.unreadable import read_envelope

log = logging.getLogger(__name__)

#: How many messages are published together, and how long a step waits on an empty outbox (seconds).
_BATCH: Final = 100
_WAIT_S: Final = 1.0
_PAUSE_WITHOUT_BROKER_S: Final = 1.0


class OutboxPublisher(Role):
    """Takes ids from the outbox and publishes their messages.

    A submission writes its record and the id in one step. If a publisher dies, the sweep finds the tasks whose ids
    it had taken. If the broker does not accept a message, its id goes back to the outbox.
    """

    def __init__(self, *, store: TaskStore, broker: Broker) -> None:
        super().__init__()
        self._store = store
        self._broker = broker

    async def stop(self) -> None:
        """End the loop and disconnect. Idempotent."""
        await super().stop()
        await self._broker.close()

    async def step(self) -> float:
        """Wait for ids in the outbox and publish one batch."""
        ids = await self._store.take_outgoing(_BATCH, wait_s=_WAIT_S)
        if not ids:
            return 0
        published = False
        try:
            await self._broker.publish(await self._messages(ids))
            published = True
        except Exception as exc:
            log.warning("the broker did not accept %d messages, which stay in the outbox: %s", len(ids), exc)
            return _PAUSE_WITHOUT_BROKER_S
        finally:
            if not published:
                # Some may have been published all the same; a worker's claim refuses a task's second message.
                await self._store.return_outgoing(ids)
        return 0

    async def _messages(self, ids: Sequence[str]) -> list[Outgoing]:
        """Return the messages of those tasks that still wait."""
        previews = await read_previews(self._store, ids, shown_bytes=SHOWN_BYTES)
        found = []
        for message in await self._store.outgoing_messages(ids):
            envelope = read_envelope(message.envelope.encode())
            if is_short(envelope):
                preview = previews.get(envelope["headers"]["id"])
                # A character may have been cut in two.
                payload = preview.payload.removesuffix("\N{REPLACEMENT CHARACTER}") if preview is not None else ""
                envelope = written_out(envelope, payload)
            found.append(Outgoing(message.group, message.priority, envelope))
        return found
