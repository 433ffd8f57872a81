"""Packages whose names are imported at their first use: what type checkers see is what there is."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ["celeriac", "celeriac.settings"]


def seen_by_type_checkers(package: Any) -> dict[str, str]:
    """Return the names that are imported below `if TYPE_CHECKING`, and the module of each."""
    tree = ast.parse(Path(package.__file__).read_text("utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {
        alias.asname or alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_what_type_checkers_see(name: str) -> None:
    package = importlib.import_module(name)
    homes = seen_by_type_checkers(package)
    assert set(homes) == set(package.__all__)
    for public, home in homes.items():
        assert getattr(package, public) is getattr(importlib.import_module(home), public), public
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("name", PACKAGES)
def test_another_name_is_an_attribute_error_as_of_any_module(name: str) -> None:
    package = importlib.import_module(name)
    with pytest.raises(AttributeError, match=rf"module '{name}' has no attribute 'tusk'"):
        package.tusk  # noqa: B018
    assert not hasattr(package, "tusk")
