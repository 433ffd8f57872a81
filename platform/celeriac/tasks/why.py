"""Why a task waits: each reason with a code, a sentence for people, and its facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from celeriac.limits.rules import By, group_rule
from celeriac.model import Delivery, Reason, Status, rfc3339, utc_from_ms
from celeriac.tasks.reasons import Why

if TYPE_CHECKING:
    from celeriac.store.waits import FullRule, Waits


def why_of(waits: Waits) -> Why:
    """Return why a task waits: what holds it up first, then its place."""
    warned = waits.status in (Status.SCHEDULED, Status.RETRYING, Status.WAITING)
    warnings = tuple(_workers(waits)) if warned else ()
    return Why(waits.status, tuple(_reasons(waits)), warnings)


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
        return Reason("scheduled", f"it is scheduled for {until or 'now'}", {"until": until})
    text = f"its last attempt failed; the next one is due {f'at {until}' if until else 'now'}"
    return Reason("retry", text, {"until": until})


def _parents(waits: Waits) -> Iterator[Reason]:
    for parent in waits.parents:
        one, status = parent.on, parent.status
        now = "is not in the store any more" if status is None else f"is {status.wire}"
        end = "end" if one.when == "ended" else f"be {one.when.value}"
        named = f"{one.task_id} ({parent.node})" if parent.node else one.task_id
        facts = {"task": one.task_id, "node": parent.node, "status": None if status is None else status.wire}
        yield Reason("dependency", f"it waits for the task {named} to {end}, which {now}", facts)


def _signals(waits: Waits) -> Iterator[Reason]:
    for one in waits.signals:
        expires_at = None if one.expires_at is None else rfc3339(one.expires_at)
        facts = {
            "signal": one.signal,
            "title": one.title,
            "since": None if one.since is None else rfc3339(one.since),
            "expires_at": expires_at,
            "users": list(one.users),
        }
        text = f"it waits for the signal {one.signal}" + (f" until {expires_at}" if expires_at else "")
        yield Reason("signal", text + (f": {one.title}" if one.title else ""), facts)
    for moment in waits.times:
        until = rfc3339(moment.until)
        yield Reason("sleeping", f"it sleeps until {until}", {"until": until})


def _pauses(waits: Waits) -> Iterator[Reason]:
    if waits.pause is None:
        return
    since, note = rfc3339(waits.pause.at), waits.pause.note
    text = f"the group {waits.group} is paused since {since}" + (f": {note}" if note else "")
    yield Reason("paused", text, {"group": waits.group, "note": note or None, "since": since})


def _workers(waits: Waits) -> Iterator[Reason]:
    if waits.delivery != Delivery.EXTERNAL and not waits.knowing and not waits.unattended:
        yield no_worker(waits.group, waits.type, waits.delivery, serving=waits.serving, drained=waits.drained)


def no_worker(group: str, task_type: str, delivery: str, *, serving: int, drained: int) -> Reason:
    """Return that no worker takes a task; `serving` workers serve its group, `drained` ones do not now."""
    text = f"no {'remote ' if delivery == Delivery.REMOTE else ''}worker serves the group {group}"
    if serving:
        text = f"no worker of the group {group} knows the type {task_type}"
    if drained:
        text += f"; {drained} of its workers {'is' if drained == 1 else 'are'} drained"
    return Reason("no_worker", text, {"group": group, "type": task_type})


def _limits(waits: Waits) -> Iterator[Reason]:
    for full in waits.limits:
        whose, facts = _whose(full, waits.group), {"rule": full.rule, "key": full.key}
        if full.closed_ms is not None:
            until = _moment(full.closed_ms)
            yield Reason("limit", f"{whose} was told to wait until {until}", {**facts, "rate": None, "until": until})
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
