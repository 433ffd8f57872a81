"""Limits through the HTTP API: `AsyncClient(…).limits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from celeriac.calling.options import to_json
from celeriac.client.http.api import Api
from celeriac.client.http.calls import LIMITS, Call
from celeriac.client.outputs import error_of, member
from celeriac.errors import ApiError
from celeriac.limits.rules import By, KeyCount, LimitRule, RuleState, StartRate


class AsyncClientLimits:
    """The rules that limit tasks. Every method raises as those of the client do; changes need the scope `admin`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def set(
        self,
        name: str,
        *,
        group: str | None = None,
        type: str | None = None,
        by: str = "all",
        max_running: int | None = None,
        rate: str | None = None,
        fair: bool = False,
        ordered: bool = False,
        max_waiting: int | None = None,
        note: str | None = None,
    ) -> RuleState:
        """Set a rule in place of the one of its name; running tasks go on.

        `group`, `type` or both say which tasks it covers, `by` what it counts separately: `"all"` (nothing), `"key"`
        or `"user"`. `rate` is a text: `"5/s"`, `"100/m"`, `"10/h"`, `"1/d"`. Raises `InvalidSubmissionError`, and
        `TooManyRulesError` if more than four rules would cover a task.
        """
        wanted = {"group": group, "type": type, "by": by, "max_running": max_running, "rate": rate, "fair": fair}
        wanted |= {"ordered": ordered, "max_waiting": max_waiting, "note": note}
        return state_of(await self._api.document(Call("PUT", limit_path(name), body=to_json(wanted))))

    async def list(self) -> Sequence[RuleState]:
        """Return all rules, by name, with how many of the tasks that each covers wait, run and are held back."""
        found = member(await self._api.document(Call("GET", LIMITS)), "items", list)
        return [state_of(record) for record in found]

    async def get(self, name: str) -> RuleState:
        """Return one rule; raises `RuleNotFoundError`."""
        return state_of(await self._api.document(Call("GET", limit_path(name))))

    async def keys(self, name: str, *, sort: str = "waiting", limit: int = 100) -> Sequence[KeyCount]:
        """Return up to `limit` keys (or users) of a rule, those with most tasks first that wait, or `sort="running"`.

        Needs the scope `admin`. Raises `RuleNotFoundError`.
        """
        query = (("sort", sort), ("limit", str(limit)))
        found = member(await self._api.document(Call("GET", f"{limit_path(name)}/keys", query=query)), "items", list)
        return [_key_count_of(record) for record in found]

    async def delete(self, name: str) -> None:
        """Delete a rule: what it held goes on; raises `RuleNotFoundError`."""
        answer = await self._api.exchange(Call("DELETE", limit_path(name)))
        if answer.status != 204:
            raise error_of(answer)


def limit_path(name: str) -> str:
    """Return the path of a rule."""
    return f"{LIMITS}/{quote(name, safe='')}"


def limit_document(rule: LimitRule) -> dict[str, Any]:
    """Return what is sent to set a rule."""
    return {
        "group": rule.group,
        "type": rule.type,
        "by": rule.by.value,
        "max_running": rule.max_running,
        "rate": None if rule.rate is None else str(rule.rate),
        "fair": rule.fair,
        "ordered": rule.ordered,
        "max_waiting": rule.max_waiting,
        "note": rule.note,
    }


def state_of(record: Mapping[str, Any]) -> RuleState:
    """Read a rule; raises `ApiError` if `record` does not describe one."""
    try:
        rule = LimitRule(
            record["name"],
            group=record["group"],
            type=record["type"],
            by=By(record["by"]),
            max_running=record["max_running"],
            rate=None if record["rate"] is None else StartRate.parse(record["rate"]),
            fair=record["fair"],
            ordered=record["ordered"],
            max_waiting=record["max_waiting"],
            note=record["note"] or "",
            at=datetime.fromisoformat(record["at"]),
        )
        return RuleState(rule, waiting=record["waiting"], running=record["running"], parked=record["parked"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe a limit: {exc!r}", status=200, code="unreadable") from exc


def _key_count_of(record: Mapping[str, Any]) -> KeyCount:
    try:
        return KeyCount(record["key"], waiting=record["waiting"], running=record["running"])
    except (KeyError, TypeError) as exc:
        raise ApiError(f"the answer does not describe a key: {exc!r}", status=200, code="unreadable") from exc
