"""The blocking client is what its source gives, and both clients have the same methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celeriac.client import AsyncClient, AsyncTaskHandle, Client, TaskHandle
from tools import generate_sync_client as tool


def test_the_committed_client_is_what_its_source_gives() -> None:
    assert tool.main(["--check"]) == 0, "run `make client`"


def test_what_is_missing_changed_or_left_over_is_found(tmp_path: Path) -> None:
    (tmp_path / "same.py").write_text("1")
    (tmp_path / "changed.py").write_text("1")
    (tmp_path / "left_over.py").write_text("1")
    expected = {"same.py": "1", "changed.py": "2", "missing.py": "1"}
    assert [path.name for path in tool.stale(expected, tmp_path)] == ["changed.py", "left_over.py", "missing.py"]


def test_words_are_replaced_and_the_code_is_formatted_again() -> None:
    source = (
        "from contextlib import asynccontextmanager, contextmanager\n\n"
        "async def first(items: AsyncGenerator[int], asynchronous: int) -> int:\n"
        "    async with aclosing(items) as open_items:\n"
        "        return await anext(\n            open_items)\n"
    )
    written = tool.blocking("x.py", source)
    assert written == tool.HEADER.format(name="x.py") + (
        "from contextlib import contextmanager\n\n\n"
        "def first(items: Generator[int], asynchronous: int) -> int:\n"
        "    with closing(items) as open_items:\n"
        "        return next(open_items)\n"
    )


@pytest.mark.parametrize(("written", "generated"), [(AsyncClient, Client), (AsyncTaskHandle, TaskHandle)])
def test_both_clients_have_the_same_methods(written: type, generated: type) -> None:
    def methods(of: type) -> dict[str, Callable[..., Any]]:
        return {name: method for name, method in vars(of).items() if inspect.isfunction(method)}

    ours, theirs = methods(written), methods(generated)
    assert [re.sub("^__a(?=e)", "__", name) for name in ours] == list(theirs)
    for mine, other in zip(ours.values(), theirs.values(), strict=True):
        assert not inspect.iscoroutinefunction(other)
        assert mine.__doc__ == other.__doc__
        assert str(inspect.signature(mine)).replace("Async", "") == str(inspect.signature(other))
    assert (written.__doc__ or "").splitlines()[1:] == (generated.__doc__ or "").splitlines()[1:]
