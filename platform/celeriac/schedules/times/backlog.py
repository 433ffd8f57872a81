"""Decides which of the due slots fire, and which count as missed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from celeriac.schedules.times.succession import Succession
from celeriac.schedules.times.timetable import Timetable


class Misfire(StrEnum):
    """What happens to slots that fell due while no beat ran."""

    SKIP = "skip"  #: none of them runs
    FIRE_ONCE = "fire_once"  #: one instance runs, for the last of them
    FIRE_ALL = "fire_all"  #: all slots in the catch-up window run


@dataclass(frozen=True, slots=True)
class MisfirePolicy:
    """If the first slot is at most `grace_ms` late, all count as on time. `window_ms` is the catch-up window."""

    misfire: Misfire = Misfire.FIRE_ONCE
    grace_ms: int = 60_000
    window_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """The slots to fire in order, the number of missed slots, and the slot after them (None: there is no other)."""

    fire: tuple[int, ...]
    missed: int
    following: int | None


def backlog_of(table: Timetable | Succession, slot: int, now_ms: int, policy: MisfirePolicy, *, most: int) -> Backlog:
    """Decide about the slots from `slot` (the next one) on that are due at `now_ms`; at most `most` fire.

    If more should fire, the following slot is due already: call again.
    """
    if table.due(slot) > now_ms:
        return Backlog((), 0, slot)
    if now_ms - table.due(slot) <= policy.grace_ms:
        return _collect(table, slot, now_ms, most)
    if policy.misfire is Misfire.FIRE_ALL:
        missed = 0
        oldest = now_ms - policy.window_ms
        if slot < oldest:
            _, missed = table.last(slot, oldest - 1)
            following = table.after(oldest - 1)
            if following is None or table.due(following) > now_ms:
                return Backlog((), missed, following)
            slot = following
        collected = _collect(table, slot, now_ms, most)
        return Backlog(collected.fire, missed, collected.following)
    last, count = slot, 1
    if slot <= now_ms - table.jitter_ms:
        # All of these are due, even with the longest jitter.
        last, count = table.last(slot, now_ms - table.jitter_ms)
    following = table.after(last)
    while following is not None and table.due(following) <= now_ms:
        last, count = following, count + 1
        following = table.after(following)
    if policy.misfire is Misfire.SKIP:
        return Backlog((), count, following)
    return Backlog((last,), count - 1, following)


def _collect(table: Timetable | Succession, slot: int, now_ms: int, most: int) -> Backlog:
    fire: list[int] = []
    following: int | None = slot
    while following is not None and len(fire) < most and table.due(following) <= now_ms:
        if fire and table.budget.half_spent:
            break
        fire.append(following)
        following = table.after(following)
    return Backlog(tuple(fire), 0, following)
