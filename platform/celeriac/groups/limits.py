"""The service of limits: the one door through which every front door reads and changes rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from celeriac.errors import InvalidSubmissionError, RuleNotFoundError, Violation
from celeriac.limits.rules import KeyCount, LimitRule, RuleState, SortKeys, check_rule
from celeriac.store import keys
from celeriac.store.rules import read_keys, read_rule, read_rules, read_states
from celeriac.store.task_store import TaskStore

#: An error names this many rules.
_NAMED: Final = 50
#: A list of keys has so many unless asked otherwise, and at most so many.
DEFAULT_KEYS: Final = 100
MOST_KEYS: Final = 1000


class LimitRules:
    """A process's access to the rules that limit tasks; belongs to one event loop.

    Methods that take the name of a rule that is not there raise `RuleNotFoundError`. Every method raises
    `StoreUnavailableError` while the store is away.
    """

    def __init__(self, *, store: TaskStore) -> None:
        self.store = store

    async def all(self) -> list[RuleState]:
        """Return all rules, sorted by name."""
        return await read_states(self.store, await read_rules(self.store))

    async def get(self, name: str) -> RuleState:
        """Return one rule."""
        (state,) = await read_states(self.store, [await self._rule(name)])
        return state

    async def keys(self, name: str, *, sort: SortKeys = SortKeys.WAITING, limit: int = DEFAULT_KEYS) -> list[KeyCount]:
        """Return the keys (or users) of which most tasks wait or run under a rule, the largest first.

        A rule that counts all tasks together has one entry, whose key is None.
        """
        return await read_keys(self.store, await self._rule(name), sort=sort, limit=limit)

    async def set(self, rule: LimitRule) -> tuple[RuleState, bool]:
        """Set a rule in place of the one of its name; returns it, and whether it is new. Running tasks go on.

        Raises `InvalidSubmissionError` for a rule that cannot be so, and `TooManyRulesError`.
        """
        check_rule(rule)
        if rule.group is not None and keys.reserved(rule.group):
            raise InvalidSubmissionError([Violation("group", f"a group cannot be named {rule.group!r}")])
        since, was_there = await self.store.set_rule(rule)
        (state,) = await read_states(self.store, [replace(rule, at=since)])
        return state, not was_there

    async def delete(self, name: str) -> None:
        """Delete a rule. What it held goes on, as far as other rules have room."""
        if not await self.store.remove_rule(name):
            raise await self._unknown(name)

    async def _rule(self, name: str) -> LimitRule:
        rule = await read_rule(self.store, name)
        if rule is None:
            raise await self._unknown(name)
        return rule

    async def _unknown(self, name: str) -> RuleNotFoundError:
        return RuleNotFoundError(name, [rule.name for rule in await read_rules(self.store)][:_NAMED])
