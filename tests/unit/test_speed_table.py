"""The table of speed in the READMEs."""

from __future__ import annotations

import pytest

from tools.speed_table import BEGIN, END, page, stale, table


def figure(value: float) -> dict[str, object]:
    return {"median": value, "spread": 0.0, "rounds": [value]}


WORKERS = {
    "celeriac, async": {"worker_us": figure(100), "store_us": figure(50)},
    "BullMQ": {"worker_us": figure(50), "store_us": figure(30)},
    "dramatiq": {"worker_us": figure(210), "store_us": figure(40)},
}
FIGURES = {
    "run": {"day": "2026-01-02", "processors": 2, "quick": True},
    "throughput": {"versions": {"python": "3.11", "store": "Valkey 9"}, "workers": WORKERS},
}


def test_the_readmes_have_the_table_of_the_committed_figures() -> None:
    assert [str(path) for path, _ in stale()] == [], "run python tools/speed_table.py"


def test_a_row_compares_with_the_best_peer_and_names_the_others() -> None:
    assert table(FIGURES, 0).splitlines()[2:] == [
        "| run a no-op task, CPU of the worker (async) | 100 µs | BullMQ: 50 µs | 2.00 | dramatiq 2.1 |"
    ], "rows without figures are left out"


@pytest.mark.parametrize("document", [{}, {"throughput": {"workers": {"celeriac, async": WORKERS["BullMQ"]}}}])
def test_without_figures_or_peers_there_is_no_table(document: dict[str, object]) -> None:
    assert table(document, 0) == ""
    assert page(f"a {BEGIN} old {END} b", document, 0) == f"a {BEGIN}\n\n{END} b"


def test_a_page_keeps_everything_outside_the_markers_and_needs_them() -> None:
    made = page(f"before\n{BEGIN}\nold\n{END}\nafter", FIGURES, 1)
    assert made.startswith(f"before\n{BEGIN}\n\n| 工作 |")
    assert made.endswith(f"2 个处理器；数值越小越好。Python 3.11, Valkey 9。\n\n{END}\nafter")
    assert page(made, FIGURES, 1) == made
    with pytest.raises(ValueError, match="the page has no lines"):
        page(f"{BEGIN} without an end", FIGURES, 0)
