"""The order of a graph, and what is wrong with one. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence


def in_order(after: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the names so that each comes after those that it names, else as they stand; None if there is a cycle.

    `after` has the names that each one comes after; other names in it do not count.
    """
    followers: dict[str, list[str]] = {name: [] for name in after}
    open_of = dict.fromkeys(after, 0)
    for name, before in after.items():
        for one in before:
            if one in followers:
                followers[one].append(name)
                open_of[name] += 1
    ready = deque(name for name, count in open_of.items() if not count)
    ordered: list[str] = []
    while ready:
        name = ready.popleft()
        ordered.append(name)
        for follower in followers[name]:
            open_of[follower] -= 1
            if not open_of[follower]:
                ready.append(follower)
    return ordered if len(ordered) == len(after) else None


def cycle_in(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a cycle as a path whose last name is its first one, `[]` if there is none. Each name comes after the one
    before it.
    """
    done: set[str] = set()
    for start in after:
        # Against the edges, from each name to those that it comes after; not recursive, as a chain may be long.
        path: list[str] = []
        on_path: dict[str, int] = {}
        todo: list[tuple[str, bool]] = [(start, True)]
        while todo:
            name, entered = todo.pop()
            if not entered:
                path.pop()
                del on_path[name]
                done.add(name)
            elif name in on_path:
                return [name, *reversed(path[on_path[name] :])]
            elif name in after and name not in done:
                on_path[name] = len(path)
                path.append(name)
                todo.append((name, False))
                todo.extend((one, True) for one in after[name])
    return []
