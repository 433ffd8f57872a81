"""Redis hashes, and what a claim is answered, as the core's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.limits.rules import GROUP_PREFIX, By, LimitRule, Limits, StartRate
from celeriac.model import Claim, Failure, LogLine, Parent, Pause, Progress, Task, WorkerInfo, utc_from_ms
from celeriac.store.life import whole
from celeriac.task_fields import DEFAULTS, DEPENDENCIES, FIELDS, OBJECT, STORED, WORDS, number_of, status_of, whole_of

#: Name in the store → attribute of `Task`, and how it is read.
_READERS: Final = {field.names[0]: (field.name, field.kind.read) for field in FIELDS if not field.parts}
#: What stands for a field that the record does not have, as far as `Task` does not say it.
_MISSING: Final = {field.name: field.missing for field in FIELDS if not field.parts and field.name not in DEFAULTS}

#: Stands for a value that cannot be read.
_DAMAGED: Final[Any] = object()
#: What reading a note raises that this version did not write.
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, OverflowError)

T = TypeVar("T")


def task_from_hash(record: Mapping[str, str]) -> Task:
    """Return the task of the hash `task:{id}`; fields that a foreign writer left out have their defaults.

    A short record is completed. What cannot be read has its default too, and `damage` says so. This raises nothing.
    """
    if "life" in record:
        record = whole(record.get("task_id", ""), record)
    reading = _Reading(record)
    values: dict[str, Any] = {**_MISSING, "payload": {}, "metadata": {}}
    extra: dict[str, str] = {}
    for stored, text in record.items():
        if stored in _READERS:
            if text:
                name, read = _READERS[stored]
                value = reading.value(stored, read, _DAMAGED)
                if value is not _DAMAGED:
                    values[name] = value
                elif name == "payload":
                    values[name] = None
        elif stored not in STORED:
            extra[stored] = text
    values["created_at"] = created = values["created_at"] or utc_from_ms(0)
    values["updated_at"] = values["updated_at"] or created
    get = record.get
    return Task(
        progress=Progress(
            percentage=reading.value("percentage", number_of, 0.0),
            stage=get("stage", ""),
            message=get("message_text", ""),
            timestamp_ms=reading.value("timestamp_ms", whole_of, 0),
        ),
        error=_failure(get("error_code"), get("error_message"), get("error_retryable")),
        extra=extra,
        damage=reading.damage,
        **values,
    )


class _Reading:
    """Reads fields of a hash, and notes which of them cannot be read."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._problems: list[str] = []

    @property
    def damage(self) -> str | None:
        """What could not be read, in words for people."""
        return "; ".join(self._problems) or None

    def value(self, name: str, read: Callable[[str], T], default: T) -> T:
        """Return the value of a field, or `default` for one that is absent, empty or cannot be read."""
        text = self._fields.get(name)
        if not text:
            return default
        try:
            return read(text)
        except JsonError as exc:
            self._problems.append(f"{name} {exc.problem}" if exc.place == "the text" else f"{name}: {exc}")
        except (ValueError, OverflowError, OSError) as exc:
            self._problems.append(f"{name} {exc}")
        return default


def _failure(code: str | None, message: str | None, retryable: str | None) -> Failure | None:
    return Failure(code or "failed", message or "", retryable == "1") if code or message else None


def parent_from_hash(record: Mapping[str, str | None]) -> Parent:
    """Return a task of which only status, result and error were read, for those that depend on it."""
    fields = {name: text for name, text in record.items() if text is not None}
    return Parent(
        status=status_of(fields.get("status", "")),
        result=_Reading(fields).value("result", json_text.read, None),
        error=_failure(*(fields.get(f"error_{part}") for part in ("code", "message", "retryable"))),
        workflow_id=fields.get("workflow_id"),
        node=fields.get("node"),
    )


def worker_from_hash(worker_id: str, fields: Mapping[str, str]) -> WorkerInfo:
    """Return the worker of the hash `celeriac:worker:{id}`; what cannot be read has its default."""
    reading = _Reading(fields)
    return WorkerInfo(
        worker_id=worker_id,
        kind=fields.get("kind", ""),
        host=fields.get("host", ""),
        pid=reading.value("pid", whole_of, 0),
        groups=tuple(name for name in fields.get("groups", "").split(",") if name),
        concurrency=reading.value("concurrency", whole_of, 0),
        running=reading.value("running", whole_of, 0),
        started_at=reading.value("started_ms", _moment_of_ms, utc_from_ms(0)),
        seen_at=reading.value("seen_ms", _moment_of_ms, utc_from_ms(0)),
        name=fields.get("name", ""),
        address=fields.get("address", ""),
        models=reading.value("models", WORDS.read, ()),
        tasks=reading.value("tasks", WORDS.read, ()),
        follows=fields.get("follows") == "1",
        app=fields.get("app", ""),
        code=fields.get("code", ""),
        code_ms=reading.value("code_ms", whole_of, 0),
        drains=fields.get("drains") == "1",
        drained="drain" in fields and fields["drain"] == fields.get("started_ms"),
        ended_per_minute=reading.value("ended_per_minute", number_of, None),
        memory_bytes=reading.value("memory_bytes", whole_of, None),
    )


def _moment_of_ms(text: str) -> datetime:
    return utc_from_ms(number_of(text))


def rule_json(rule: LimitRule) -> dict[str, Any]:
    """Return a rule as `lua/shared/rules.lua` reads it; that has its name and time beside it."""
    found: dict[str, Any] = {"by": rule.by.value, "note": rule.note}
    for name in ("group", "type", "max_running", "max_waiting"):
        if (value := getattr(rule, name)) is not None:
            found[name] = value
    for name in ("fair", "ordered"):
        if getattr(rule, name):
            found[name] = True
    if rule.rate is not None:
        found.update(rate=rule.rate.starts, per_ms=rule.rate.per_ms)
    return found


def rule_from_json(name: str, text: str) -> LimitRule:
    """Return a rule that `lua/transitions/set_rule.lua` noted."""
    try:
        noted = json_text.read(text, "the record of the rule")
        return LimitRule(
            name,
            group=noted.get("group"),
            type=noted.get("type"),
            by=By(noted["by"]),
            max_running=noted.get("max_running"),
            rate=StartRate(noted["rate"], noted["per_ms"]) if "rate" in noted else None,
            fair=bool(noted.get("fair")),
            ordered=bool(noted.get("ordered")),
            max_waiting=noted.get("max_waiting"),
            note=str(noted.get("note", "")),
            at=utc_from_ms(float(noted["since_ms"])),
        )
    except _UNREADABLE as exc:
        return LimitRule(name, note=f"damaged: {exc}", at=utc_from_ms(0))


def limits_of_groups(rules: Mapping[str, str]) -> dict[str, Limits]:
    """Return the limits of groups among the noted rules, by group."""
    found = (rule_from_json(name, text) for name, text in rules.items() if name.startswith(GROUP_PREFIX))
    return {
        rule.name.removeprefix(GROUP_PREFIX): Limits(rule.max_running, rule.rate, rule.at, rule.note) for rule in found
    }


def pause_from_json(text: str) -> Pause:
    """Return the pause that `lua/transitions/pause.lua` noted."""
    try:
        noted = json_text.read(text, "the record of the pause")
        return Pause(utc_from_ms(float(noted["paused_ms"])), str(noted.get("note", "")))
    except _UNREADABLE as exc:
        return Pause(utc_from_ms(0), f"damaged: {exc}")


def claim_from_reply(task_id: str, fence: str, fields: Sequence[Any]) -> Claim:
    """Return the claim that `lua/transitions/claim.lua` granted, from what it answers after `go`."""
    type_, group, payload, attempt, max_retries, allowed, user_id, metadata, timeout_ms, path, parents, *more = fields
    redelivered, attempts_before, workflow_id, node, kept, ran_ms, key = more
    return Claim(
        task_id=task_id,
        fence=fence,
        type=type_,
        group=group,
        payload=payload,
        attempt=int(attempt),
        max_retries=int(max_retries),
        attempts_allowed=int(allowed),
        user_id=user_id,
        # What cannot be read is left out; a foreign program wrote it.
        metadata=_Reading({"metadata": metadata or ""}).value("metadata", OBJECT.read, {}),
        timeout_ms=int(timeout_ms) if timeout_ms else None,
        original_file_path=path,
        depends_on=DEPENDENCIES.read(parents) if parents else (),
        redelivered=bool(redelivered),
        attempts_before=int(attempts_before or 0),
        workflow_id=workflow_id,
        node=node,
        key=key,
        has_kept=bool(kept),
        ran_ms=int(ran_ms or 0),
    )


def log_line_from_entry(entry_id: str, fields: Mapping[str, str]) -> LogLine:
    """Return a line from its entry in the stream of a task's log; if it cannot be read, its `data` has `damaged`."""
    reading = _Reading(fields)
    data: dict[str, Any] = reading.value("data", OBJECT.read, {})
    timestamp_ms, attempt = reading.value("timestamp_ms", whole_of, 0), reading.value("attempt", whole_of, 0)
    return LogLine(
        level=fields.get("level", "info"),
        message=fields.get("message", ""),
        data=data if reading.damage is None else {**data, "damaged": reading.damage},
        timestamp_ms=timestamp_ms,
        attempt=attempt,
        id=entry_id,
    )
