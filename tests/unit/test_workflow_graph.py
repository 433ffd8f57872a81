"""How the dashboard folds a workflow and places its nodes: the modules of the page, in Node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.pages.page_modules import PageModules, page_modules

Nodes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageModules]:
    with page_modules(tmp_path_factory.mktemp("graph")) as running:
        yield running


def node(*after: Any, type: str = "t") -> dict[str, Any]:
    return {"type": type, "after": list(after)}


def chain(count: int) -> Nodes:
    return {f"c{n}": node(*([f"c{n - 1}"] if n else [])) for n in range(count)}


def fan(count: int) -> Nodes:
    members = [f"m{n}" for n in range(count)]
    return {"start": node(), **{name: node("start", type="resize") for name in members}, "end": node(*members)}


def shown(drawn: dict[str, Any]) -> list[tuple[str, int]]:
    return [(item["key"], len(item["names"])) for item in drawn["items"]]


def crossings(drawn: dict[str, Any]) -> int:
    """How many pairs of lines between the same two layers cross, as their ends say."""
    ends = [(line[0], line[1], line[-2], line[-1]) for line in drawn["lines"]]
    return sum(
        a[0] == b[0] and a[2] == b[2] and (a[1] - b[1]) * (a[3] - b[3]) < 0
        for i, a in enumerate(ends)
        for b in ends[:i]
    )


def check(drawn: dict[str, Any], nodes: Nodes) -> None:
    """Check what holds of each drawing."""
    items, places = drawn["items"], drawn["places"]
    assert sorted(name for item in items for name in item["names"]) == sorted(nodes)
    assert len(places) == len(items)
    assert len(drawn["lines"]) == len(drawn["edges"])
    near = 1e-6
    boxes = sorted((box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]) for box in places)
    for x, y, right, bottom in boxes:
        assert x >= -near
        assert y >= -near
        assert right <= drawn["width"] + near
        assert bottom <= drawn["height"] + near
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            if b[0] >= a[2] - near:
                break
            assert b[1] >= a[3] - near or b[3] <= a[1] + near, f"{a} and {b} overlap"
    for edge, line in zip(drawn["edges"], drawn["lines"], strict=True):
        assert places[edge["from"]]["layer"] < places[edge["to"]]["layer"]
        assert len(line) % 4 == 0


@st.composite
def graphs(draw: st.DrawFn) -> Nodes:
    """Generate graphs of all shapes, also with what the API refuses: unknown names, circles, a node after itself."""
    count = draw(st.integers(1, 40))
    names = [draw(st.sampled_from([f"n{n}", f"n{max(0, n - 1)}/x{n}"])) for n in range(count)]
    others = st.sampled_from([*names, "nobody"])
    entry = others | st.fixed_dictionaries({"node": others, "when": st.sampled_from(["failed", "ended"])})
    after = st.lists(entry, max_size=4)
    return {name: {"type": draw(st.sampled_from("abc")), "after": draw(after)} for name in names}


@given(graphs(), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_node_has_a_place_and_each_line_goes_forward(
    pages: PageModules, nodes: Nodes, unfolded: bool, vertical: bool
) -> None:
    opened = [f"{kind}:{name}" for kind in ("alike", "run") for name in nodes] if unfolded else []
    drawn = pages.ask(nodes=nodes, opened=opened, vertical=vertical)
    check(drawn, nodes)
    again = pages.ask(nodes=nodes, opened=opened, vertical=vertical)
    assert {**again, "took_ms": 0} == {**drawn, "took_ms": 0}


def test_edges_have_their_conditions_and_a_spawned_node_hangs_on_its_parent(pages: PageModules) -> None:
    nodes = {
        "a": node(),
        "b": node("a", {"node": "a", "when": "failed"}, "nobody"),
        "c": node({"node": "b", "when": "ended"}),
        "c/mail": node(),
        "c/mail#2": node("c/mail"),
    }
    graph = pages.ask(nodes=nodes)["graph"]
    assert [(graph["names"][e["from"]], graph["names"][e["to"]], e["when"]) for e in graph["edges"]] == [
        ("a", "b", "completed"),
        ("b", "c", "ended"),
        ("c", "c/mail", "spawned"),
        ("c/mail", "c/mail#2", "completed"),
    ]


def test_a_fan_is_shown_as_one_until_it_is_opened(pages: PageModules) -> None:
    nodes = fan(998)
    assert shown(pages.ask(nodes=nodes)) == [("node:start", 1), ("alike:m0", 998), ("node:end", 1)]
    opened = pages.ask(nodes=nodes, opened=["alike:m0"])
    check(opened, nodes)
    assert len(opened["items"]) == 1000
    # As broad as high, more or less, and not a column of 66,000 pixels.
    assert opened["height"] < 4000
    assert opened["width"] < 8000
    assert len(shown(pages.ask(nodes=fan(5)))) == 7


def test_nodes_before_different_ones_are_not_alike(pages: PageModules) -> None:
    nodes = {"start": node(), **{f"m{n}": node("start") for n in range(12)}}
    nodes |= {"even": node(*(f"m{n}" for n in range(0, 12, 2))), "odd": node(*(f"m{n}" for n in range(1, 12, 2)))}
    folded = [("node:start", 1), ("alike:m0", 6), ("alike:m1", 6), ("node:even", 1), ("node:odd", 1)]
    assert shown(pages.ask(nodes=nodes)) == folded


def test_branches_of_several_nodes_are_shown_as_one(pages: PageModules) -> None:
    nodes: Nodes = {"start": node()}
    for n in range(20):
        nodes[f"get{n}"] = node("start", type="get")
        nodes[f"put{n}"] = node(f"get{n}", type="put")
    nodes["odd"] = node("start", type="other")
    nodes["end"] = node(*(f"put{n}" for n in range(20)), "odd")
    assert shown(pages.ask(nodes=nodes)) == [("node:start", 1), ("alike:get0", 40), ("node:odd", 1), ("node:end", 1)]


def test_a_long_chain_shows_its_ends_until_it_is_opened(pages: PageModules) -> None:
    nodes = chain(1000)
    folded = pages.ask(nodes=nodes)
    ends = [("node:c0", 1), ("node:c1", 1), ("run:c2", 996), ("node:c998", 1), ("node:c999", 1)]
    assert shown(folded) == ends
    opened = pages.ask(nodes=nodes, opened=["run:c2"])
    check(opened, nodes)
    assert len(opened["items"]) == 1000
    # A chain is a straight line.
    assert len({box["y"] for box in opened["places"]}) == 1
    assert len(shown(pages.ask(nodes=chain(12)))) == 12


def test_lines_do_not_cross_without_need(pages: PageModules) -> None:
    # Declared in an order in which each line would cross each other one.
    pairs = {**{f"a{n}": node(type=f"a{n}") for n in range(5)}, **{f"b{n}": node(f"a{n}") for n in reversed(range(5))}}
    assert crossings(pages.ask(nodes=pairs)) == 0
    # The order in which it is written down has one crossing; a better one has none.
    turned = {
        **{name: node(type=name) for name in ("s1", "s2", "s3")},
        **{name: node(*after, type=name) for name, after in {"a": ["s1"], "c": ["s1", "s3"], "b": ["s2"]}.items()},
    }
    assert crossings(pages.ask(nodes=turned)) == 0
    tree = {f"t{n}": node(*([f"t{(n - 1) // 2}"] if n else []), type=f"t{n}") for n in range(31)}
    drawn = pages.ask(nodes=tree)
    check(drawn, tree)
    assert crossings(drawn) == 0


def test_a_line_over_several_layers_passes_beside_the_boxes(pages: PageModules) -> None:
    nodes = {"a": node(), "b": node("a"), "c": node("b"), "d": node("c", "a")}
    drawn = pages.ask(nodes=nodes)
    [long] = [line for line in drawn["lines"] if len(line) > 4]
    for box in drawn["places"][1:3]:
        assert all(y < box["y"] or y > box["y"] + box["height"] for y in long[3:-2:2])


def test_a_node_that_waits_for_nothing_is_beside_what_waits_for_it(pages: PageModules) -> None:
    nodes = {**chain(6), "late": node(type="other"), "end": node("c5", "late")}
    drawn = pages.ask(nodes=nodes)
    layers = {item["key"]: box["layer"] for item, box in zip(drawn["items"], drawn["places"], strict=True)}
    assert layers["node:late"] == layers["node:c5"]


@pytest.mark.parametrize("count", [1000])
def test_the_largest_workflow_is_placed_in_time(pages: PageModules, count: int) -> None:
    names = [f"d{n}" for n in range(count)]
    dense = {name: node(*names[:n], type=name) for n, name in enumerate(names)}
    sparse = {name: node(*{names[n * k % n] for k in (3, 7)} if n else (), type=name) for n, name in enumerate(names)}
    for nodes in (dense, sparse, {name: node(type=name) for name in names}):
        drawn = pages.ask(nodes=nodes, brief=True)
        assert drawn["items"] == count
        # Measured: 1.5 seconds for half a million lines, on one slow processor.
        assert drawn["took_ms"] < 30_000
