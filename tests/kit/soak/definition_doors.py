"""Doors for definitions: strict ones, whose every slot must run once, and loose ones, which are edited and paused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from celeriac.model import ms_from_utc
from tests.kit.soak.doors import GROUPS, Knocker
from tests.kit.soak.ledger import Slots

_LIFE_S = 40


class DefinitionDoors:
    """Makes definitions that fire every few seconds for a short time."""

    def __init__(self, knocker: Knocker) -> None:
        self._knocker = knocker
        self._ledger = knocker.ledger
        self._chance = knocker.chance

    async def _make(self, **fields: Any) -> str | None:
        """Make a definition with these fields and return its id, or None if no API process made it."""
        task = {
            "type": "soak.nap",
            "payload": {"seconds": 0.1},
            "queue": self._chance.choice(GROUPS),
            "max_retries": 60,
        }
        document = {"user_id": 5, "task": task, "trigger_type": "LOOP", "misfire": "fire_all", **fields}
        answer = await self._knocker.ask("definitions", "POST", "/api/v1/definitions", json=document)
        if answer is None:
            return None
        if answer.status_code != 201:
            self._knocker.refuse("definitions", answer)
            return None
        return str(answer.json()["task_def_id"])

    async def strict(self) -> None:
        """Make a definition whose slots are known beforehand."""
        step = self._chance.choice([1, 2, 3])
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60)
        start += timedelta(seconds=-start.second % step)
        count = _LIFE_S // step
        end = start + timedelta(seconds=step * (count - 1))
        if self._chance.random() < 0.5 and 60 % step == 0:
            rule: dict[str, Any] = {"cron": f"*/{step} * * * * *", "timezone": "Europe/Berlin"}
        else:
            rule = {"interval": step}
        definition_id = await self._make(trigger_args=rule, start_at=start.isoformat(), end_at=end.isoformat())
        if definition_id is None:
            return
        if datetime.now(UTC) > start:
            self._ledger.loose_definitions.append(definition_id)
            return  # it was made after its first slot
        self._ledger.definitions.append(Slots(definition_id, ms_from_utc(start), step * 1000, count))

    async def loose(self) -> None:
        """Make a definition and disturb it: edits, pauses, triggers."""
        fields = {
            "overlap": self._chance.choice(["allow", "skip", "queue_one", "queue_all", "cancel_previous"]),
            "misfire": self._chance.choice(["skip", "fire_once", "fire_all"]),
            "jitter": self._chance.choice([0, 0.5]),
            "max_runs": 30,
        }
        definition_id = await self._make(trigger_args={"interval": 1}, **fields)
        if definition_id is None:
            return
        self._ledger.loose_definitions.append(definition_id)
        path = f"/api/v1/definitions/{definition_id}"
        for _ in range(6):
            await asyncio.sleep(self._chance.uniform(1, 8))
            verb = self._chance.choice(["pause", "resume", "resume", "trigger", "edit"])
            if verb == "edit":
                change = self._chance.choice([{"trigger_args": {"interval": 2}}, {"jitter": 0.2}, {"note": "edited"}])
                await self._knocker.ask("definitions", "PATCH", path, json=change)
            else:
                await self._knocker.ask("definitions", "POST", f"{path}/{verb}")
        await self._knocker.insist("definitions", "POST", f"{path}/resume")
        if self._chance.random() < 0.3:
            await self._knocker.insist("definitions", "POST", f"{path}/cancel")
