"""Limits for blocking code: `Client(…).limits`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from celeriac.calling.blocking import block_on
from celeriac.client.limits import AsyncClientLimits
from celeriac.limits.rules import KeyCount, RuleState

T = TypeVar("T")


class ClientLimits:
    """The rules that limit tasks. Every method raises as those of the client do; changes need the scope `admin`."""

    def __init__(self, limits: AsyncClientLimits) -> None:
        self._limits = limits

    def set(
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
        work = self._limits.set(
            name,
            group=group,
            type=type,
            by=by,
            max_running=max_running,
            rate=rate,
            fair=fair,
            ordered=ordered,
            max_waiting=max_waiting,
            note=note,
        )
        return self._block(work, "set")

    def list(self) -> Sequence[RuleState]:
        """Return all rules, by name, with how many of the tasks that each covers wait, run and are held back."""
        return self._block(self._limits.list(), "list")

    def get(self, name: str) -> RuleState:
        """Return one rule; raises `RuleNotFoundError`."""
        return self._block(self._limits.get(name), "get")

    def keys(self, name: str, *, sort: str = "waiting", limit: int = 100) -> Sequence[KeyCount]:
        """Return up to `limit` keys (or users) of a rule, those with most tasks first that wait, or `sort="running"`.

        Needs the scope `admin`. Raises `RuleNotFoundError`.
        """
        return self._block(self._limits.keys(name, sort=sort, limit=limit), "keys")

    def delete(self, name: str) -> None:
        """Delete a rule: what it held goes on; raises `RuleNotFoundError`."""
        self._block(self._limits.delete(name), "delete")

    def _block(self, work: Coroutine[Any, Any, T], name: str) -> T:
        call = f"limits.{name}()"
        return block_on(work, call=f"Client.{call}", instead=f"await AsyncClient.{call}")
