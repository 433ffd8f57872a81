"""Why a task waits: each reason with a code, a sentence for people, and its facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celeriac.limits.rules import By, group_rule
from celeriac.model import Delivery, Status, rfc3339, utc_from_ms

if TYPE_CHECKING:
    from celeriac.store.waits import FullRule, Waits


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a task waits for. `facts` are JSON-ready; each code has its own."""

    code: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Why:
    """The status of a task, and why it waits; a task that runs or has ended has no reasons."""

    status: Status
    reasons: tuple[Reason, ...] = ()


def why_record(why: Why) -> dict[str, Any]:
    """Return the answer as every front door writes it."""
    reasons = [{"code": reason.code, "text": reason.text, **reason.facts} for reason in why.reasons]
    return {"status": why.status.wire, "reasons": reasons}


def why_of(waits: Waits) -> Why:
    """Return why a task waits: what holds it up first, then its place."""
    return Why(waits.status, tuple(_reasons(waits)))


def _reasons(waits: Waits) -> Iterator[Reason]:
    match waits.status:
        case Status.SCHEDULED | Status.RETRYING:
            yield _timed(waits)
        case Status.WAITING:
            yield from _parents(waits)
            yield from _signals(waits)
        case Status.PENDING:
            yield from _pauses(waits)
            yield from _workers(waits)
            yield from _limits(waits)
            yield _position(waits)


def _timed(waits: Waits) -> Reason:
    if waits.due_ms is None and waits.replaced_by is not None:
        facts = {"task": waits.replaced_by, "node": None, "status": None}
        return Reason("dependency", f"it waits for the end of {waits.replaced_by}, which has replaced it", facts)
    until = _moment(waits.due_ms)
    if waits.status is Status.SCHEDULED:
        return Reason("scheduled", f"it is scheduled for {until}", {"until": until})
    return Reason("retry", f"its last attempt failed; the next one is due at {until}", {"until": until})


def _parents(waits: Waits) -> Iterator[Reason]:
    for one, status in waits.parents:
        now = "is not in the store any more" if status is None else f"is {status.wire}"
        end = "end" if one.when == "ended" else f"be {one.when.value}"
        facts = {"task": one.task_id, "node": None, "status": None if status is None else status.wire}
        yield Reason("dependency", f"it waits for the task {one.task_id} to {end}, which {now}", facts)


def _signals(waits: Waits) -> Iterator[Reason]:
    for one in waits.signals:
        until = None if one.expires_at is None else rfc3339(one.expires_at)
        text = f"it waits for the signal {one.signal}" + (f" until {until}" if until else "")
        yield Reason("signal", text, {"signal": one.signal, "title": one.title, "until": until})
    for moment in waits.times:
        until = rfc3339(moment.until)
        yield Reason("sleep", f"it sleeps until {until}", {"until": until})


def _pauses(waits: Waits) -> Iterator[Reason]:
    if waits.pause is None:
        return
    since, note = rfc3339(waits.pause.at), waits.pause.note
    text = f"the group {waits.group} is paused since {since}" + (f": {note}" if note else "")
    yield Reason("paused", text, {"group": waits.group, "note": note or None, "since": since})


def _workers(waits: Waits) -> Iterator[Reason]:
    if waits.delivery == Delivery.EXTERNAL or waits.knowing:
        return
    text = f"no {'remote ' if waits.delivery == Delivery.REMOTE else ''}worker serves the group {waits.group}"
    if waits.serving:
        text = f"no worker of the group {waits.group} knows the type {waits.type}"
    yield Reason("no_worker", text, {"group": waits.group, "type": waits.type})


def _limits(waits: Waits) -> Iterator[Reason]:
    for full in waits.limits:
        whose, facts = _whose(full, waits.group), {"rule": full.rule, "key": full.key}
        if full.closed_ms is not None:
            until = _moment(full.closed_ms)
            yield Reason("limit", f"{whose} was told to wait until {until}", {**facts, "until": until})
        if full.max_running is not None:
            text = f"{whose} is at its limit: {full.running} of {full.max_running} run"
            yield Reason("limit", text, {**facts, "running": full.running, "max_running": full.max_running})
        if full.holder is not None:
            text = f"{whose} runs one task at a time, in order: the task {full.holder} is before this one"
            yield Reason("limit", text, {**facts, "running": 1, "max_running": 1})
        if full.rate is not None:
            until = _moment(full.starts_ms)
            text = f"{whose} starts {full.rate}; this task's turn is not before {until}"
            yield Reason("limit", text, {**facts, "rate": str(full.rate), "until": until})


def _whose(full: FullRule, group: str) -> str:
    """Return what a rule counts, as the subject of a sentence."""
    if full.key is not None:
        whose = f"the {'user' if full.by is By.USER else 'key'} {full.key}"
    else:
        whose = f"the group {group}" if full.rule in (None, group_rule(group)) else "what the rule counts together"
    return whose if full.rule in (None, group_rule(group)) else f"{whose} (rule {full.rule})"


def _position(waits: Waits) -> Reason:
    position = waits.position or 1
    ahead = position - 1
    before = "it is the next one" if not ahead else f"{ahead} {'task is' if ahead == 1 else 'tasks are'} ahead of it"
    text = f"{before} in the group {waits.group}"
    return Reason("position", text, {"group": waits.group, "position": position, "ahead": ahead})


def _moment(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(utc_from_ms(ms))
