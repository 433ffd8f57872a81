"""What all tests of the shop share: a database of their own, and Celeriac's platform for those that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["celeriac.testing.pytest_plugin"]


@pytest.fixture(scope="session", autouse=True)
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database for the session. The workers of the platform inherit the variable."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATABASE", str(path))
        yield path


@pytest.fixture(scope="session")
def celeriac_settings() -> dict[str, Any]:
    """The tests call the shop in their own process, so the platform need not start it."""
    return {"up": {"processes": {}}}
