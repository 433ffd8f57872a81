"""Lookups of rules: which there are, and what waits and runs of each key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from heapq import nsmallest
from typing import Final

from celeriac.limits.rules import By, KeyCount, LimitRule, RuleState, SortKeys
from celeriac.store import keys
from celeriac.store.reading import StoreReader
from celeriac.store.records import rule_from_json
from celeriac.store.server.scripts import script

#: Keys that one call of the script counts.
_AT_ONCE: Final = 500


async def read_rules(store: StoreReader) -> list[LimitRule]:
    """Return all rules, sorted by name."""
    (noted,) = await store.read(("HGETALL", keys.RULES))
    return [rule_from_json(name, noted[name]) for name in sorted(noted)]


async def read_rule(store: StoreReader, name: str) -> LimitRule | None:
    """Return the rule of this name, or None."""
    (text,) = await store.read(("HGET", keys.RULES, name))
    return None if text is None else rule_from_json(name, text)


async def read_states(store: StoreReader, rules: Sequence[LimitRule]) -> list[RuleState]:
    """Return rules with how many tasks wait and run under each in all; one round trip."""
    indexes = [(*_indexes(rule), keys.parked(rule.name)) for rule in rules]
    counts = iter(await store.read(*(("ZCARD", index) for of_rule in indexes for index in of_rule)) if rules else ())
    found = []
    for rule, of_rule in zip(rules, indexes, strict=True):
        *waiting, running, parked = (int(next(counts)) for _ in of_rule)
        found.append(RuleState(rule, waiting=sum(waiting), running=running, parked=parked))
    return found


async def read_first_states(store: StoreReader, most: int) -> tuple[list[RuleState], int]:
    """Return up to `most` rules as `read_states` does, the limits of groups last, and how many rules there are."""
    rules = sorted(await read_rules(store), key=lambda rule: (rule.of_group, rule.name))
    return await read_states(store, rules[:most]), len(rules)


async def read_keys(store: StoreReader, rule: LimitRule, *, sort: SortKeys, limit: int) -> list[KeyCount]:
    """Return the keys (or users) of which most tasks wait or run under a rule, the largest first; equals by name.

    It looks at all keys that have such tasks, some hundred in each round trip, and keeps the largest: they may change
    meanwhile. A key costs the store about 10 µs.
    """
    if rule.by is By.ALL:
        (state,) = await read_states(store, [rule])
        return [KeyCount(None, state.waiting, state.running)]
    queued, permits = keys.queued(rule.name), keys.permits(rule.name)
    largest: list[KeyCount] = []
    for index in (queued, permits) if sort is SortKeys.WAITING else (permits, queued):
        if len(largest) == limit:
            break  # the others have none of what is sorted by
        async for counted in _pages_of_keys(store, rule, index):
            # A key with waiting and running tasks is counted twice: the later count is the newer one.
            known = {one.key: one for one in (*largest, *counted)}
            largest = nsmallest(limit, known.values(), key=lambda one: (-getattr(one, sort.value), one.key))
    return largest


async def _pages_of_keys(store: StoreReader, rule: LimitRule, index: str) -> AsyncGenerator[list[KeyCount]]:
    """Yield the keys that have tasks in an index, with what waits and runs of them."""
    source, after = script("rule_keys").source, ""
    while True:
        (found,) = await store.read(
            ("EVAL", source, 3, index, keys.queued(rule.name), keys.permits(rule.name), after, _AT_ONCE)
        )
        counted = zip(found[::3], found[1::3], found[2::3], strict=True)
        yield [KeyCount(key, int(waiting), int(running)) for key, waiting, running in counted]
        if len(found) < 3 * _AT_ONCE:
            return
        after = str(found[-3])


def _indexes(rule: LimitRule) -> list[str]:
    """Return where the waiting tasks of a rule are, and last where the running ones are."""
    group = rule.group
    if group is not None and rule.type is None and rule.by is By.ALL:
        return [keys.waiting(group), keys.remote(group), keys.remote_parked(group), keys.running(group)]
    return [keys.queued(rule.name), keys.permits(rule.name)]
