"""The answer to the question why a task waits: immutable data, and its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celeriac.model import Reason, Status


@dataclass(frozen=True, slots=True)
class Why:
    """The status of a task, and why it waits; a task that runs or has ended has no reasons."""

    status: Status
    reasons: tuple[Reason, ...] = ()
    #: What will hold it up once it no longer waits for that: nobody takes it, as it is now.
    warnings: tuple[Reason, ...] = ()


def why_record(why: Why) -> dict[str, Any]:
    """Return the answer as every front door writes it; `warnings` is there if there are any."""
    answer = {"status": why.status.wire, "reasons": reason_records(why.reasons)}
    return {**answer, "warnings": reason_records(why.warnings)} if why.warnings else answer


def reason_records(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    """Return reasons, or warnings, as every front door writes them."""
    return [{"code": reason.code, "text": reason.text, **reason.facts} for reason in reasons]


def why_from_record(record: Mapping[str, Any]) -> Why:
    """Read what `why_record` wrote; raises `ValueError` for anything else."""
    try:
        return Why(
            Status(record["status"]), *(tuple(map(_reason, record.get(name, ()))) for name in ("reasons", "warnings"))
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"the answer does not say why a task waits: {exc!r}") from exc


def _reason(record: Mapping[str, Any]) -> Reason:
    facts = {name: value for name, value in record.items() if name not in ("code", "text")}
    return Reason(record["code"], record["text"], facts)
