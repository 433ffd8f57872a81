"""Waiting until the store is back."""

from __future__ import annotations

import pytest

from celeriac.errors import StaleClaimError, StoreUnavailableError
from celeriac.store.patience import until_back


async def test_a_step_is_repeated_while_the_store_is_away_and_its_caller_hears_once() -> None:
    answers: list[Exception | int] = [StoreUnavailableError("first"), StoreUnavailableError("second"), 7]
    heard: list[str] = []

    async def step() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await until_back(step, what="a test", pause_s=0, on_away=lambda exc: heard.append(str(exc))) == 7
    assert heard == ["first"]
    assert answers == []


async def test_other_errors_pass_through() -> None:
    async def step() -> None:
        raise StaleClaimError("t", "CANCELLED")

    with pytest.raises(StaleClaimError):
        await until_back(step, what="a test")
