"""Calls of a tick go out together, and each waiter hears its own reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from celeriac.store.server.coalescer import Coalescer
from celeriac.store.server.scripts import Script, script


async def echo(calls: Sequence[tuple[Script, list[Any]]]) -> list[Any]:
    return [ValueError("no") if "bad" in arguments else list(arguments) for _, arguments in calls]


async def test_a_function_that_raises_takes_no_reply_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    coalescer, called, heard = Coalescer(run=echo, common=lambda _: []), script("submit"), []

    def raises(reply: Any) -> None:
        raise RuntimeError(f"cannot take {reply}")

    coalescer.begin(called, ("a",), heard.append)
    coalescer.begin(called, ("b",), raises)
    future = coalescer.call(called, "c")
    each = coalescer.call_each(called, [("d",), ("e",)])
    assert (await future, await each, heard) == ("c", ["d", "e"], ["a"])
    assert "cannot take b" in caplog.text
    assert await coalescer.call_each(called, []) == []


async def test_a_bad_item_fails_alone_whoever_waits() -> None:
    coalescer, called = Coalescer(run=echo, common=lambda _: []), script("submit")
    good, bad = await coalescer.call_each(called, [("a",), ("bad",)])
    assert good == "a"
    assert str(bad) == "no"
