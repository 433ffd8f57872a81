"""A class is found by its name: no two public classes of one source tree have the same one."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("tree", ["platform/celeriac", "api/celeriac_api", "tasks/celeriac_tasks"])
def test_no_two_classes_of_a_tree_have_one_name(tree: str) -> None:
    places = defaultdict(list)
    # Django names the class of each of its migrations.
    for path in sorted(
        one for one in (REPOSITORY / tree).rglob("*.py") if one.parts[-3:-1] != ("django", "migrations")
    ):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(REPOSITORY)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
