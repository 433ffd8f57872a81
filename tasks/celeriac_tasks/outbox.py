"""Publishes the messages of tasks whose broker is not the store."""

from __future__ import annotations

import logging
from typing import Final

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac_tasks.engine.broker import Broker

log = logging.getLogger(__name__)

#: Messages published together, and how long one look at an empty outbox waits (seconds).
_BATCH: Final = 100
_WAIT_S: Final = 1.0
_PAUSE_WITHOUT_BROKER_S: Final = 1.0


class OutboxPublisher(Role):
    """Takes ids from the outbox and publishes their messages.

    A submission writes its record and the id in one step. What a publisher had taken when it died is
    found by the sweep; what the broker did not take goes back.
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
        """Publish one batch, once there is one."""
        ids = await self._store.take_outgoing(_BATCH, wait_s=_WAIT_S)
        if not ids:
            return 0
        published = False
        try:
            await self._broker.publish(await self._store.outgoing_messages(ids))
            published = True
        except Exception as exc:
            log.warning("%d messages wait in the outbox for the broker: %s", len(ids), exc)
            return _PAUSE_WITHOUT_BROKER_S
        finally:
            if not published:
                # Some may have been, all the same: a second message of a task is refused at its claim.
                await self._store.return_outgoing(ids)
        return 0
