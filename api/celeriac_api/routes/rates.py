"""The rate of a limit, as requests write it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from celeriac.limits.rules import StartRate


def _readable(text: str) -> str:
    try:
        StartRate.parse(text)
    except ValueError as exc:
        raise ValueError(f"{text!r} {exc}") from exc
    return text


#: A text that `StartRate.parse` reads.
RateText = Annotated[str, AfterValidator(_readable)]
