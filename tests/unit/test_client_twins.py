"""Both clients have the same methods, and so have both sides of a handle."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from celeriac.client import AsyncClient, AsyncTaskHandle, Client, TaskHandle
from celeriac.client.blocking_limits import ClientLimits
from celeriac.client.blocking_workflows import ClientWorkflows
from celeriac.client.limits import AsyncClientLimits
from celeriac.client.workflows import AsyncClientWorkflows

_DIFFER = {"AsyncTaskHandle": "TaskHandle", "AsyncGenerator": "Iterator", "AsyncIterator": "Iterator"}


def methods(of: type) -> dict[str, Callable[..., Any]]:
    return {
        name: method for name, method in vars(of).items() if inspect.isfunction(method) and not name.startswith("_")
    }


def shape(method: Callable[..., Any]) -> str:
    text = str(inspect.signature(method))
    for word, other in _DIFFER.items():
        text = text.replace(word, other)
    return text


@pytest.mark.parametrize(
    ("asyncio", "blocking"),
    [
        (AsyncClient, Client),
        (AsyncTaskHandle, TaskHandle),
        (AsyncClientWorkflows, ClientWorkflows),
        (AsyncClientLimits, ClientLimits),
    ],
)
def test_blocking_methods_are_those_for_asyncio(asyncio: type, blocking: type) -> None:
    theirs = methods(blocking)
    for name, method in methods(asyncio).items():
        assert not inspect.iscoroutinefunction(theirs[name])
        assert shape(theirs[name]) == shape(method), name
        assert theirs[name].__doc__ == method.__doc__, name
    assert blocking is TaskHandle or methods(asyncio).keys() == theirs.keys()


def test_each_method_of_a_handle_has_a_twin_to_await() -> None:
    ours = methods(TaskHandle)
    for name in methods(AsyncTaskHandle):
        twin = ours["await_done" if name == "wait" else f"a{name}"]
        assert shape(twin) == shape(ours[name])
        assert (twin.__doc__ or "").startswith(f"Do the same as `{name}`")
