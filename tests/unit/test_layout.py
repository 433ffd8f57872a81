"""The source roots are folders, never packages."""

from __future__ import annotations

import pytest

from tests.kit.command_line import REPOSITORY


@pytest.mark.parametrize("folder", ["platform", "api", "tasks", "proto"])
def test_a_source_root_is_no_package(folder: str) -> None:
    assert (REPOSITORY / folder).is_dir()
    assert not (REPOSITORY / folder / "__init__.py").exists()
