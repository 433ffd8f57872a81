"""The table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.kit.soak.leaks import Growth


def table_of(
    run: Mapping[str, Any],
    done: Mapping[str, int],
    zeroes: Mapping[str, int],
    growths: list[Growth],
    servers: Mapping[str, tuple[float, float]],
) -> str:
    """Return the table as text."""
    lines = ["", "# What was run", *(f"{name:46} {value}" for name, value in run.items())]
    lines += ["", "# What was done", *(f"{name:46} {count}" for name, count in sorted(done.items()))]
    lines += ["", "# What must be zero", *(f"{name:46} {count}" for name, count in zeroes.items())]
    lines += ["", "# What grew: the first and the last quarter of a process's time since the half"]
    lines.append(f"{'process':12} {'minutes':>8} {'RSS MiB':>16} {'descriptors':>14} {'threads':>10}")
    for g in growths:
        figures = f"{_pair(g.rss_mib, 1):>16} {_pair(g.fds):>14} {_pair(g.threads):>10}"
        lines.append(f"{g.name:12} {g.minutes:8.1f} {figures}{'  LEAKS' if g.leaks else ''}")
    lines += ["", "# The servers, quiet: before and after"]
    lines += [f"{name:24} {before:10.1f} {after:10.1f}" for name, (before, after) in servers.items()]
    return "\n".join(lines)


def by_name(counts: Mapping[Any, int]) -> Counter[str]:
    """Return counts with texts as names."""
    return Counter({name if isinstance(name, str) else " ".join(name): count for name, count in counts.items()})


def _pair(values: tuple[float, float], digits: int = 0) -> str:
    return f"{values[0]:.{digits}f} → {values[1]:.{digits}f}"
