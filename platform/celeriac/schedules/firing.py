"""Makes a task of a firing: an ordinary submission under an id that derives from definition and slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from celeriac import json_text
from celeriac.errors import (
    DuplicateTaskError,
    GroupLimitError,
    InvalidSubmissionError,
    KeyFullError,
    QueueFullError,
    StoreUnavailableError,
)
from celeriac.model import Submission, Submitted, rfc3339, utc_from_ms
from celeriac.schedules import transitions
from celeriac.schedules.definition import SKIPPED, Definition, Firing, InstanceEnd, content_of
from celeriac.schedules.sql.firings import FiringTable, Planned
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import registry
from celeriac.tasks.submission import Instance, instance_of

log = logging.getLogger(__name__)


def submission_of(definition: Definition, firing: Firing, settings: Settings) -> Submission:
    """Return the submission of an instance."""
    spec, run = definition.spec, definition.spec.run
    scheduled_at = rfc3339(utc_from_ms(firing.slot_ms))
    facts: dict[str, Any] = {
        "task_def_id": definition.definition_id,
        "task_id": firing.task_id,
        "scheduled_at": scheduled_at,
        "trigger": firing.trigger,
    }
    payload = None
    if spec.task is None and not definition.read_only:
        content = content_of(spec.content, spec.user_id, facts)
        payload = json_text.write(registry.hooks_of(run["type"]).content_payload(content))
    instance = Instance(
        task_id=firing.task_id,
        definition_id=definition.definition_id,
        user_id=definition.user_id,
        trigger=firing.trigger,
        scheduled_at_ms=firing.slot_ms,
        facts=facts,
        payload=payload,
    )
    return instance_of(run, instance, settings)


class Fired(NamedTuple):
    """What became of firings: how many of them the store has now, and what those were answered that made no task."""

    made: int
    duplicates: Mapping[str, Submitted | DuplicateTaskError]


class FiringSubmitter:
    """Submits planned firings and marks them as submitted; a refused one stays planned, or counts as missed."""

    def __init__(self, *, store: TaskStore, firings: FiringTable, settings: Settings) -> None:
        self._store = store
        self._firings = firings
        self._settings = settings

    async def submit(self, planned: Sequence[Planned], now_ms: int) -> Fired:
        """Submit firings, in batches of one round trip.

        One whose key of `once` another task holds makes no instance: it counts as skipped, and its row is gone. A
        single firing does not raise. If the store is away, firings stay planned, and a beat takes them over.
        """
        wanted = [(definition, firing) for definition, firing in planned if not firing.cancel]
        withdrawn = {firing.task_id: InstanceEnd("CANCELLED", now_ms) for _, firing in planned if firing.cancel}
        replies = await asyncio.gather(*(self._one(*pair) for pair in wanted), return_exceptions=True)
        done: list[str] = []
        missed: dict[str, InstanceEnd] = {}
        skipped: dict[str, InstanceEnd] = {}
        duplicates: dict[str, Submitted | DuplicateTaskError] = {}
        for (definition, firing), reply in zip(wanted, replies, strict=True):
            if isinstance(reply, DuplicateTaskError) or (isinstance(reply, Submitted) and reply.deduplicated):
                duplicates[firing.task_id] = reply
                skipped[firing.task_id] = InstanceEnd(SKIPPED, now_ms)
            elif isinstance(reply, Submitted):
                done.append(firing.task_id)
            elif isinstance(reply, asyncio.CancelledError):
                raise reply
            elif (
                isinstance(reply, QueueFullError | KeyFullError | GroupLimitError)
                and now_ms - firing.planned_ms < definition.spec.misfire_grace_ms
            ):
                log.debug("a firing of %s waits for room: %s", definition.definition_id, reply)
            elif not isinstance(reply, StoreUnavailableError):
                log.warning("a firing of definition %s is missed: %s", definition.definition_id, reply)
                missed[firing.task_id] = InstanceEnd("MISSED", now_ms, str(reply))
        await self._firings.submitted(done)
        if ends := {**missed, **withdrawn, **skipped}:
            await self._firings.settle(ends, lambda d, ended, unended: transitions.settled(d, ended, unended, now_ms))
        return Fired(len(done), duplicates)

    async def _one(self, definition: Definition, firing: Firing) -> Submitted:
        try:
            submission = submission_of(definition, firing, self._settings)
        except (KeyError, ValueError) as exc:
            # A later version wrote the row.
            raise InvalidSubmissionError([]) from exc
        return await self._store.submit(submission)
