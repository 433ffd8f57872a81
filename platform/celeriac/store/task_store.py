"""The life cycle: every change of a task is one of these calls, and each call is one atomic script on the server.

Calls may be repeated safely, because the first reply may have been lost: a submission carries a nonce, a claim its
fence, a report its number. `reading.py` has the lookups, `server/connection.py` the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from celeriac import json_text
from celeriac.errors import (
    ChangedTaskError,
    DependedOnError,
    DuplicateTaskError,
    GroupLimitError,
    IllegalTransitionError,
    InvalidSubmissionError,
    QueueFullError,
    SignalReceivedError,
    StaleClaimError,
    StepLimitError,
    StoreUnavailableError,
    TaskEndedError,
    TaskNotFoundError,
    TooManyRulesError,
    Violation,
    WorkerNotDrainableError,
    WorkerNotFoundError,
)
from celeriac.limits.rules import MOST_OF_A_TASK, LimitRule, Limits, StartRate, group_rule
from celeriac.logs import without_secrets
from celeriac.model import (
    Amendment,
    Claim,
    Delivery,
    Failure,
    LeaseState,
    LogLine,
    Pause,
    Progress,
    Refusal,
    Status,
    Submission,
    Submitted,
    ms_from_utc,
    utc_from_ms,
)
from celeriac.moments import MAX_DELAY_S
from celeriac.safe_text import redact
from celeriac.signals.links import check_signal_name
from celeriac.store import keys
from celeriac.store.owners import MOST_OWNED, owner_notes
from celeriac.store.reading import StoreReader
from celeriac.store.records import claim_from_reply, rule_json
from celeriac.store.server.durability import ReplicasMissingError
from celeriac.store.server.scripts import script
from celeriac.store.submit_call import key_full, maker_argument, submit_arguments, submitted_for_good
from celeriac.store.suspension import Noted, Wait, noted_from
from celeriac.store.unknown_tasks import MOST_UNKNOWN, UNKNOWN_NOTED_S, unknown_note

#: Longest message of a progress report or an error (characters).
MAX_TEXT: Final = 8192
#: Largest JSON of the data of a log line (bytes).
MAX_LOG_DATA: Final = 16_384
#: Longest time to the next attempt (ms).
_MAX_DELAY_MS: Final = round(MAX_DELAY_S * 1000)
#: A call that takes longer than this has waited for the store (seconds).
_WAITED_S: Final = 1.0
#: Tasks that one step of a resumption looks at.
_RESUMED_AT_ONCE: Final = 500
#: Workers that one round trip asks about.
_WORKERS_AT_ONCE: Final = 500


class OutgoingMessage(NamedTuple):
    """A message for a broker other than Redis; `envelope` has the format of kombu's virtual transports."""

    group: str
    priority: int
    envelope: str


class LostAttempt(NamedTuple):
    """An attempt that ended with its process: the task's status after it, and which of how many attempts it was."""

    status: Status
    attempt: int
    attempts: int


class UntoldEnd(NamedTuple):
    """An ended task of which the caller tells Celery; `lease_until_ms` proves that it is the one who does."""

    task_id: str
    lease_until_ms: int


class TaskStore(StoreReader):
    """A process's connection to the life cycle; belongs to one event loop."""

    # --- front doors

    async def submit(self, submission: Submission) -> Submitted:
        """Store a submission; it is durable when this returns.

        Raises `NotReplicatedError` with the task's id, `QueueFullError`, or
        `InvalidSubmissionError` if its id or group would use the key of something else.
        """
        arguments = submit_arguments(submission, self.settings.queues, self.unique())
        return await submitted_for_good(submission, self._coalescer.call(script("submit"), *arguments))

    def submit_soon(self, task_id: str, payload: str, kind: str, heard: Callable[[Any], None]) -> None:
        """Begin to store a submission of this kind (see `SubmissionKind`).

        `heard` gets what `submitted` reads, or an error, once it is durable; it must not raise.
        """
        self._coalescer.begin(script("submit"), (task_id, payload, self.unique(), kind), heard)

    def submit_each(self, items: Iterable[tuple[str, str, str]]) -> asyncio.Future[list[Any]]:
        """Store submissions, each an id, a payload and a kind; the future gets what `heard` of `submit_soon` gets."""
        return self._coalescer.call_each(script("submit"), [(i, text, self.unique(), kind) for i, text, kind in items])

    async def cancel(self, task_id: str, message: str = "", *, running: Literal["", "at_once", "spare"] = "") -> Status:
        """Cancel a task. A waiting one is CANCELLED at once. For a running one this returns PROCESSING; it stops soon.

        The default message for a waiting task says whether it has run before. If `running` is "at_once", a running
        task is CANCELLED too, whatever its worker still does: for those who end its process. If it is "spare", the
        attempt that runs may end as it does, but no other one follows.
        """
        arguments = (task_id, message, running)
        before, after = ("", "") if keys.record_of_nobody(task_id) else await self._one("cancel", *arguments)
        if not before:
            raise TaskNotFoundError(task_id)
        if before in (Status.COMPLETED.stored, Status.FAILED.stored):
            raise IllegalTransitionError(task_id, before, "cancel")
        return Status(after)

    async def run_now(self, task_id: str) -> Status:
        """Run a task now that waits for its time or for its next attempt; returns its status.

        One that is PENDING or PROCESSING stays as it is. Raises `TaskNotFoundError`, and `IllegalTransitionError` for
        one that has ended or waits for something else.
        """
        before, after = ("", "") if keys.record_of_nobody(task_id) else await self._one("run_now", task_id)
        if not before:
            raise TaskNotFoundError(task_id)
        if before == "replaced":
            raise IllegalTransitionError(task_id, Status.SCHEDULED.stored, "run", why="another task has replaced it")
        if Status(before) in (Status.SCHEDULED, Status.RETRYING, Status.PENDING, Status.PROCESSING):
            return Status(after)
        raise IllegalTransitionError(task_id, before, "run")

    async def retry(
        self,
        task_id: str,
        *,
        payload: str | None = None,
        secret_fields: Sequence[str] = (),
        rev: int | None = None,
        kept: Mapping[str, str] | None = None,
        nonce: str | None = None,
        maker: str | None = None,
        from_step: str = "",
        kept_steps: Mapping[str, str] | None = None,
    ) -> Status:
        """Run a failed or cancelled task again with its attempts granted anew.

        Returns PENDING, or WAITING while tasks that it depends on have not ended. `payload` (a JSON object) replaces
        the present one; `secret_fields` are the paths of the secrets in it, none means: those that the record names.
        `kept` is the record from history, for a task that the store no longer has, and `kept_steps` are its steps.
        With `rev`, a task that has changed since this revision stays as it is: `ChangedTaskError`. Calls with the same
        `nonce` count once. `maker`: who makes its group if that is not known any more (see `Submission.maker`).

        The task keeps its steps and signals. With `from_step` it forgets the step of this name and all that came after
        it, and it may have completed; `InvalidSubmissionError` if it has no such step.
        """
        if keys.record_of_nobody(task_id):
            raise TaskNotFoundError(task_id)
        group, delivery = (await self.read_records(("HMGET", keys.task(task_id), "queue", "delivery")))[0]
        if not group and kept is not None:
            group, delivery = kept.get("queue"), kept.get("delivery")
        if not group:
            raise TaskNotFoundError(task_id)
        queues = self.settings.queues
        limit = queues.limit_of(group, remote=delivery == Delivery.REMOTE)
        before = await self._one(
            "retry",
            task_id,
            limit,
            nonce or self.unique(),
            payload or "",
            "" if rev is None else rev,
            json_text.write(dict(kept)) if kept else "",
            "\n".join(secret_fields),
            maker_argument(maker, group, queues),
            queues.max_groups,
            queues.max_user_groups,
            from_step,
            json_text.write(dict(kept_steps)) if kept_steps else "",
        )
        if not before:
            raise TaskNotFoundError(task_id)
        if before == "no_step":
            message = f"the task has kept no step {from_step[:200]!r}"
            raise InvalidSubmissionError([Violation("from_step", message)])
        if before == "queue_full":
            raise QueueFullError(group, limit)
        if isinstance(before, list):
            raise key_full(before)
        if before.startswith("duplicate "):
            raise DuplicateTaskError(before.removeprefix("duplicate "))
        if before.startswith("groups_full"):
            own = before.endswith("caller")
            raise GroupLimitError(group, queues.max_user_groups if own else queues.max_groups, own=own)
        if before == "changed":
            raise ChangedTaskError(task_id)
        if before == "waits":
            return Status.WAITING
        if before == "celery":
            message = "plain Celery published this task with its arguments: publish another one instead"
            raise InvalidSubmissionError([Violation("payload", message)])
        if before == "incomplete":
            message = (
                "a task before it in its chord failed, so it never got its arguments: publish the chord again instead"
            )
            raise InvalidSubmissionError([Violation("task_id", message)])
        if before == "notified":
            message = "a program ran this task by itself and only reported it: run that program again instead"
            raise InvalidSubmissionError([Violation("task_id", message)])
        if before not in (Status.FAILED.stored, Status.CANCELLED.stored) and not (
            from_step and before == Status.COMPLETED.stored
        ):
            raise IllegalTransitionError(task_id, before, "retry")
        return Status.PENDING

    async def bring_back(self, task_id: str, record: Mapping[str, str]) -> bool:
        """Put the record of an ended task back, as the history has it, so that others may depend on the task.

        It leaves the store again after its retention. Returns whether the store has the task now: false for one that
        has not ended.
        """
        return bool(await self._one("bring_back", task_id, json_text.write(dict(record))) != "open")

    async def signal(
        self,
        task_id: str,
        name: str,
        value_json: str,
        *,
        user_id: str | None = None,
        check: Callable[[Any], object] | None = None,
        nonce: str | None = None,
    ) -> datetime:
        """Give a task a signal that it waits for, or will wait for; returns when it was received.

        `user_id` is the caller, None if it may signal all tasks. If the task asks for a value with a JSON Schema,
        `check` is called with that and raises an error if the value does not fit. Calls of one `nonce` (a text without
        spaces) count once. Raises `SignalReceivedError` if there is a signal of this name, `TaskEndedError`,
        `TaskNotFoundError` (also for a task that the user may not signal), and `InvalidSubmissionError` for a name or
        value that cannot be, or one signal too many.
        """
        check_signal_name(name)
        steps, size = self.settings.steps, len(value_json.encode())
        if size > steps.max_signal_bytes:
            message = f"is {size} bytes, above the limit of {steps.max_signal_bytes} (steps.max_signal_bytes)"
            raise InvalidSubmissionError([Violation("value", message)])
        outcome, fits, nonce = ["schema", ""], "", nonce or self.unique()
        while outcome[0] == "schema":
            if outcome[1]:
                fits = outcome[1]
                if check is not None:
                    check(json_text.read(fits))
            outcome = (
                ["unknown"]
                if keys.record_of_nobody(task_id)
                else await self._one("signal", task_id, name, value_json, nonce, user_id or "", fits, steps.max_signals)
            )
        match outcome:
            case ["received", at_ms]:
                return utc_from_ms(int(at_ms))
            case ["known", at_ms]:
                raise SignalReceivedError(task_id, name, utc_from_ms(int(at_ms)))
            case ["ended", status]:
                raise TaskEndedError(task_id, status)
            case ["full"]:
                message = f"the task has received {steps.max_signals} signals, which is the limit (steps.max_signals)"
                raise InvalidSubmissionError([Violation("signal", message)])
        raise TaskNotFoundError(task_id)

    async def set_checkpoint(self, task_id: str, text: str) -> None:
        """Keep how far a task is, for the next attempt if this one dies; it lives as long as the record."""
        kept_ms = max(round(self.settings.retention * 1000), 7 * 86_400_000)
        await self.read(("SET", keys.checkpoint(task_id), text, "PX", kept_ms))

    async def remove(self, task_id: str, *, user_id: str) -> None:
        """Remove the record of a user's task that has ended; raises `TaskNotFoundError`, `IllegalTransitionError`.

        `DependedOnError` if a task that has not ended depends on it.
        """
        reply = "" if keys.record_of_nobody(task_id) else await self._one("remove", task_id, user_id)
        if not reply:
            raise TaskNotFoundError(task_id)
        if reply.startswith("depended:"):
            raise DependedOnError(task_id, reply.removeprefix("depended:"))
        if reply != "ok":
            raise IllegalTransitionError(task_id, reply, "remove")

    # --- executors

    async def claim(self, task_id: str, *, worker: str, edition: int | None = None) -> Claim | Refusal:
        """Claim a waiting task for its next attempt; exactly one of any number of calls is granted.

        `edition` is that of the task's message, None if the message has nothing that the record may change. A message
        is refused if a replacement, a retry with other arguments or a later call of the id has made it stale.
        """
        if keys.record_of_nobody(task_id):
            return Refusal(task_id, "unknown")
        fence = self.unique()
        edition_text = "" if edition is None else edition
        try:
            reply = await self._coalescer.call(script("claim"), task_id, worker, fence, edition_text)
        except ReplicasMissingError as exc:
            reply = exc.answer
            if reply[0] == "go":
                # After a failover nobody would know of the claim, so it does not start. It is not an attempt.
                with suppress(StoreUnavailableError):
                    await self._one("release", task_id, fence)
                raise
        if reply[0] != "go":
            return Refusal(task_id, reply[1].lower())
        return claim_from_reply(task_id, fence, reply[1:])

    def report(self, claim: Claim, seq: int, progress: Progress) -> asyncio.Future[str]:
        """Send a progress report, in the order of the calls; the future gets what `progress.lua` answers."""
        return self._coalescer.call(
            script("progress"),
            claim.task_id,
            claim.fence,
            seq,
            number_text(progress.percentage),
            cut(progress.stage, MAX_TEXT),
            cut(progress.message, MAX_TEXT),
            progress.timestamp_ms,
        )

    async def progress(self, claim: Claim, seq: int, progress: Progress) -> bool:
        """Record a progress report; `seq` counts from 1 within the attempt. Returns whether a cancel was asked for."""
        reply = await self.report(claim, seq, progress)
        _check_claim(claim, reply)
        return reply == "cancel"

    def log(self, claim: Claim, seq: int, line: LogLine) -> asyncio.Future[str]:
        """Send a line of the task's log, in the order of the calls; see `log.lua` for the answer.

        `seq` counts from 1 within the attempt.
        """
        return self._coalescer.call(
            script("log"),
            claim.task_id,
            claim.fence,
            seq,
            line.level,
            # Only this much is searched for secrets; everything that is kept has been searched.
            cut(redact(line.message[: 4 * MAX_TEXT]), MAX_TEXT),
            log_data_text(line.data),
            line.timestamp_ms,
        )

    def send_result(
        self, claim: Claim, result_json: str, result_file_path: str = "", celery_state: bytes = b""
    ) -> asyncio.Future[str]:
        """Send the end of the attempt, without waiting; the future gets `complete.lua`'s answer. See `complete`."""
        return self._coalescer.call(
            script("complete"), claim.task_id, claim.fence, result_json, result_file_path, celery_state
        )

    async def complete(
        self, claim: Claim, result_json: str, result_file_path: str = "", celery_state: bytes = b""
    ) -> None:
        """End the attempt with a result, and with the path of its file if it is a file; raises `StaleClaimError`.

        `celery_state` is what Celery's result backend keeps of the end, as `complete.lua` takes it.
        """
        _check_claim(claim, await self.send_result(claim, result_json, result_file_path, celery_state))

    async def fail(self, claim: Claim, failure: Failure, delay_ms: int, *, untold: bool = False) -> Status:
        """End the attempt as failed; returns RETRYING, FAILED or CANCELLED.

        `untold`: Celery is still to be told if the task has ended with that (see `take_untold`).
        """
        reply = await self._coalescer.call(
            script("fail"),
            claim.task_id,
            claim.fence,
            failure.code,
            cut(failure.message, MAX_TEXT),
            "1" if failure.retryable else "0",
            min(max(delay_ms, 0), _MAX_DELAY_MS),
            "1" if untold else "0",
        )
        _check_claim(claim, reply)
        return Status(reply)

    async def note_step(self, claim: Claim, name: str, value: str, *, took_ms: int = 0) -> tuple[Noted, int]:
        """Keep what the attempt has done, and renew its lease; returns what is kept, and the store's time (ms).

        `name` is `step:NAME` with a result as JSON, `child:NAME` with the id of a submitted task, or `sleep:NAME` with
        the moment when it is over (ms), which is `took_ms` from now if `value` is "". What was kept before under the
        name stays. Raises `StepLimitError` and `StaleClaimError`.
        """
        reply = await self._coalescer.call(script("note_step"), claim.task_id, claim.fence, name, value, took_ms)
        match reply:
            case ["kept", entry, now_ms]:
                return noted_from(entry), int(now_ms)
            case ["entries", limit]:
                raise StepLimitError(f"the task has kept {limit} steps, which is the limit (steps.most)")
            case ["bytes", limit]:
                raise StepLimitError(f"the steps of the task are above {limit} bytes (steps.max_task_bytes)")
        raise StaleClaimError(claim.task_id, reply[1])

    async def suspend(self, claim: Claim, waits: Sequence[Wait]) -> Status | None:
        """Suspend the attempt until all that it waits for is there; it goes on as the same attempt.

        Returns WAITING, CANCELLED if somebody asked for that, or None if all is there by now: then the attempt still
        runs. Raises `StaleClaimError`, `StepLimitError`, and `QueueFullError` if too many tasks wait.
        """
        most, most_steps = self.settings.max_scheduled, self.settings.steps.most
        items = json_text.write([wait.item() for wait in waits])
        reply = await self._one("suspend", claim.task_id, claim.fence, items, most, most_steps)
        _check_claim(claim, reply)
        if reply == "full":
            raise QueueFullError("(waiting)", most)
        if reply == "entries":
            raise StepLimitError(f"the task has kept {most_steps} steps, which is the limit (steps.most)")
        return None if reply == "there" else Status(reply)

    async def amend(self, claim: Claim, amendment: Amendment) -> None:
        """Change what later attempts get: payload, message, group, priority, time limit, expiry and retries."""
        call = amendment.call
        fields = {
            "payload": call.payload,
            "message": call.celery_message or "",
            "priority": call.priority or "",
            "delivery": call.delivery.value,
            "timeout_ms": call.timeout_ms or "",
            "max_retries": call.max_retries,
            "attempts_allowed": amendment.attempts_allowed,
        }
        times = ["" if ms is None else ms for ms in (call.expires_at_ms, call.expires_in_ms)]
        pairs = [part for pair in fields.items() for part in pair]
        _check_claim(claim, await self._one("amend", claim.task_id, claim.fence, call.group, *times, *pairs))

    async def await_replacement(self, claim: Claim, name: str) -> Status | None:
        """End an attempt that put `name` in the place of its task, which then waits for the last part of that.

        Returns SCHEDULED or CANCELLED, or None if that part has come already, or will not come and the task has failed.
        """
        wait_ms = round(self.settings.replacement_wait * 1000)
        reply = await self._one("await_replacement", claim.task_id, claim.fence, cut(name, MAX_TEXT), wait_ms)
        status = reply.removeprefix("stale:")
        return Status(status) if status == reply or status == Status.CANCELLED.stored else None

    async def settle_cancelled(self, claim: Claim, message: str = "cancelled while it ran") -> bool:
        """End the attempt as cancelled; returns False if it has ended so before."""
        reply = await self._one("settle_cancelled", claim.task_id, claim.fence, message)
        _check_claim(claim, reply)
        return bool(reply == "ok")

    async def release(self, claim: Claim) -> Status:
        """Give the task back to the front of its group; the attempt does not count."""
        reply = await self._one("release", claim.task_id, claim.fence)
        _check_claim(claim, reply)
        return Status(reply)

    async def rate_limited(self, claim: Claim, retry_after_s: float) -> Status:
        """Give the task back, whose work somebody else's service refused for now; the attempt does not count.

        Its key is closed in its group for that long, or the group if the task has no key: none of its tasks starts
        until then. It is closed for at most the setting `limits.max_retry_after`.
        """
        closed_ms = max(1, round(min(retry_after_s, self.settings.limits.max_retry_after) * 1000))
        # In a batch, so that it does not overtake the lines of the task's log.
        reply = await self._coalescer.call(script("rate_limited"), claim.task_id, claim.fence, closed_ms)
        _check_claim(claim, reply)
        return Status(reply)

    async def lose(self, task_id: str, *, worker: str, code: str, message: str, again: bool) -> LostAttempt | None:
        """End a running attempt of a worker whose process for it is gone; `again`: another attempt may follow.

        Its task is PENDING, FAILED or CANCELLED then. Returns None if the task does not run on that worker.
        """
        reply = await self._one("lose", task_id, worker, code, cut(message, MAX_TEXT), "1" if again else "0")
        if isinstance(reply, str):
            return None
        status, attempt, attempts = reply
        return LostAttempt(Status(status), int(attempt), int(attempts))

    async def renew(
        self, worker: str, claims: Sequence[Claim], facts: Mapping[str, str] | None = None
    ) -> list[LeaseState]:
        """Renew a worker's presence (operators see `facts`) and the leases of `claims`; returns the leases' states."""
        lease_ms = round(self.settings.lease * 1000)
        pairs = [part for pair in (facts or {}).items() for part in pair]
        arguments = [part for claim in claims for part in (claim.task_id, claim.fence)]
        replies = await self._one_of_leases(
            "renew", lease_ms, worker, lease_ms, json_text.write(pairs) if pairs else "", *arguments
        )
        return [LeaseState(reply) for reply in replies]

    async def retire(self, worker: str) -> None:
        """Remove a worker that ended in good order from the list."""
        await self._patiently(lambda: self.redis.delete(keys.worker(worker)))
        await self._patiently(lambda: self.redis.zrem(keys.WORKERS, worker))

    async def drain(self, worker: str, *, drained: bool = True) -> None:
        """Have a worker take no more tasks, or tasks again (`drained` is false). What it has taken runs to its end.

        Raises `WorkerNotFoundError`, and `WorkerNotDrainableError` for a kind of worker that does not obey.
        """
        match await self._one("drain", worker, "1" if drained else ""):
            case "unknown":
                raise WorkerNotFoundError(worker)
            case "cannot":
                raise WorkerNotDrainableError(worker)

    async def is_drained(self, worker: str) -> bool:
        """Return whether a worker is to take no more tasks."""
        return worker in await self.drained_among([worker])

    async def drained_among(self, workers: Sequence[str]) -> set[str]:
        """Return those of these workers that are to take no more tasks."""
        found: set[str] = set()
        for first in range(0, len(workers), _WORKERS_AT_ONCE):
            some = workers[first : first + _WORKERS_AT_ONCE]
            replies = await self.read(*(("HMGET", keys.worker(worker), "drain", "started_ms") for worker in some))
            found.update(
                worker
                for worker, (drain, started_ms) in zip(some, replies, strict=True)
                if drain is not None and drain == started_ms
            )
        return found

    async def nudge(self, worker: str) -> None:
        """Wake a worker from its wait for tasks, because there is a group that it does not wait for yet."""
        key = keys.nudge(worker)
        await self.read(("LPUSH", key, "{}"), ("LTRIM", key, 0, 0), ("PEXPIRE", key, 10_000))

    async def name_in_counts(self, *, groups: Iterable[str] = (), types: Iterable[str] = ()) -> None:
        """Give groups and types counts of their own, however many names callers make up."""
        named = [
            (keys.LABEL_GROUPS, sorted({*self.settings.queues.groups, *groups})),
            (keys.LABEL_TYPES, sorted(types)),
        ]
        await self.read(*(("SADD", labels, *names) for labels, names in named if names))

    async def own_groups(self, app: str, groups: Iterable[str]) -> None:
        """Note that these groups are of a Celery app; see `owners.py`."""
        await self._note(keys.OWNERS, self.settings.group_ownership, MOST_OWNED, owner_notes(app, groups))

    async def note_unknown(self, task_type: str, group: str) -> None:
        """Note that a task came to a worker that does not know its type; see `unknown_tasks.py`."""
        await self._note(keys.UNKNOWN, UNKNOWN_NOTED_S, MOST_UNKNOWN, [unknown_note(task_type, group)])

    async def _note(self, notes: str, for_s: float, most: int, texts: Sequence[str]) -> None:
        await self.read(("EVAL", script("note").source, 1, notes, round(for_s * 1000), most, *texts))

    async def announce_types(self, types: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell front doors which task types the workers of this installation run."""
        if types:
            encoded = {name: json_text.write(facts) for name, facts in types.items()}
            await self._patiently(lambda: self.redis.hset(keys.TYPES, mapping=encoded))

    async def why(self, task_id: str) -> list[Any]:
        """Return what a task waits for, as `lua/reads/why.lua` says; `store/waits.py` reads it."""
        found = await self.run_one("why", task_id)
        return list(found)

    # --- background roles

    async def promote(self, limit: int = 500) -> tuple[int, int | None]:
        """Move what is due to its groups; returns how many moved and the ms until the next one is due."""
        moved, next_ms = await self._one("promote", limit)
        return int(moved), None if int(next_ms) < 0 else int(next_ms)

    async def reap(self, limit: int = 500, *, grace_s: float = 0.0, was_away: bool = False) -> tuple[int, int, int]:
        """Take back tasks whose leases ran out, and end expired tasks; returns (returned, failed, expired).

        Leases do not run out for `grace_s` after a start of the server, and after a time in which it took no writes.
        `was_away`: the caller's last call did not reach it.
        """
        clock = asyncio.get_running_loop().time
        began = clock()

        def arguments() -> list[Any]:
            waited = was_away or clock() - began > _WAITED_S
            return [limit, round(grace_s * 1000), "1" if waited else ""]

        returned, failed, expired = await self._one_afresh("reap", arguments)
        return int(returned), int(failed), int(expired)

    async def sweep(self, group: str, *, limit: int = 200, broker_empty: bool | None = None) -> list[str]:
        """Send lost messages of a group again, and forget a group that was idle for long; returns the ids of the tasks.

        `broker_empty` is for a broker other than Redis: whether it has no message for this group.
        """
        grace_ms = round(self.settings.hint_grace * 1000)
        empty = "" if broker_empty is None else "1" if broker_empty else "0"
        idle = (round(self.settings.group_retention * 1000), round(self.settings.group_idle * 1000))
        return [str(i) for i in await self._one("sweep", group, grace_ms, limit, empty, *idle)]

    async def fold_counts(self, kind: str, label: str, pairs: Sequence[str]) -> int:
        """Add the counts of a group or type to those of `other`; see `labels.py`."""
        return int(await self._one("fold_counts", kind, label, *pairs))

    async def pause(self, group: str, note: str = "") -> Pause:
        """Pause a group: its tasks are accepted and wait; running ones continue. Pausing again replaces the note."""
        noted = json_text.write({"note": note[:MAX_TEXT]})
        return Pause(utc_from_ms(int(await self._one("pause", group, noted))), note[:MAX_TEXT])

    async def resume(self, group: str, *, steps: int = 20) -> bool:
        """Resume a paused group; returns whether it was paused.

        The messages of waiting tasks are sent in order, some hundred in each of `steps` steps; sweepers send the rest.
        """
        was, _, more = await self._one("resume", group, "1", _RESUMED_AT_ONCE)
        if int(more):
            await self._go_on([group], steps - 1)
        return bool(int(was))

    async def _go_on(self, groups: Sequence[str], steps: int) -> None:
        for group in groups:
            more = 1
            while steps > 0 and more:
                _, _, more = (int(n) for n in await self._one("resume", group, "", _RESUMED_AT_ONCE))
                steps -= 1

    # --- rules

    async def set_rule(self, rule: LimitRule, *, steps: int = 20) -> tuple[datetime, bool]:
        """Set a rule in place of the one of its name; returns since when it is so, and whether there was one.

        What it lets go and what it parks is decided as in `resume`. Raises `TooManyRulesError` if it would be one too
        many, for a task or at all.
        """
        return await self._write_rule(rule.name, json_text.write(rule_json(rule)), steps)

    async def remove_rule(self, name: str, *, steps: int = 20) -> bool:
        """Remove a rule; returns whether there was one. Messages of what it held are sent as in `resume`."""
        return (await self._write_rule(name, "", steps))[1]

    async def _write_rule(self, name: str, text: str, steps: int) -> tuple[datetime, bool]:
        outcome, *facts = await self._one("set_rule", name, text, self.settings.limits.max_rules, MOST_OF_A_TASK)
        if outcome == "full":
            raise TooManyRulesError(f"there are as many rules as there may be, {facts[0]} (setting limits.max_rules)")
        if outcome == "covered":
            raise TooManyRulesError(
                f"at most {MOST_OF_A_TASK} rules may cover a task, and these would: {', '.join(map(str, facts))}"
            )
        since_ms, was, *groups = facts
        await self._go_on([str(group) for group in groups], steps)
        return utc_from_ms(int(since_ms)), bool(int(was))

    async def limit(
        self, group: str, *, max_running: int | None = None, rate: StartRate | None = None, note: str = ""
    ) -> Limits:
        """Replace the limits of a group, which are its rule `group:NAME`."""
        rule = LimitRule(group_rule(group), group=group, max_running=max_running, rate=rate, note=note[:MAX_TEXT])
        since, _ = await self.set_rule(rule)
        return Limits(max_running, rate, since, rule.note)

    async def unlimit(self, group: str, *, steps: int = 20) -> bool:
        """Remove the limits of a group; returns whether it had any. Messages of held tasks are sent as in `resume`."""
        return await self.remove_rule(group_rule(group), steps=steps)

    async def carry_on(self) -> int:
        """Send the messages that resumed groups still lack; returns how many were sent."""
        total = 0
        for group in await self._patiently(lambda: self.redis.hkeys(keys.RESUMING)):
            more = 1
            while more:
                _, sent, more = (int(n) for n in await self._one("resume", group, "", _RESUMED_AT_ONCE))
                total += sent
        return total

    async def mend_rules(self, names: Sequence[str], most: int = 20) -> int:
        """Look at some of what these rules know of tasks, and forget what is not so; returns how much that was.

        A foreign program may have deleted a record. `most` members of each set are looked at, by chance.
        """
        return int(await self._one("mend_rules", most, *names))

    async def watch_external(self, limit: int, offset: int) -> tuple[int, int]:
        """Apply what external processors wrote into records; returns (changes seen, tasks watched).

        Looks at the `limit` oldest tasks of external groups, and at `limit` more from the rank `offset` on.
        """
        changes, watched = await self._one("watch_external", limit, offset)
        return int(changes), int(watched)

    # --- ends of which no worker told Celery

    async def take_untold(self, limit: int) -> list[UntoldEnd]:
        """Take up to `limit` ended tasks of which Celery is to be told; end each one with `told` or `tell_later`."""
        taken = await self._one("take_untold", limit, round(self.settings.tell_lease * 1000))
        return [UntoldEnd(task_id, int(lease_until_ms)) for task_id, lease_until_ms in taken]

    async def told(self, end: UntoldEnd) -> None:
        """Note that Celery knows how the task ended, or need not know it."""
        await self._one("told", *end, "")

    async def tell_later(self, end: UntoldEnd, ended_at: datetime) -> bool:
        """Let any worker try again after a pause; returns False if the task ended too long ago, so nobody will."""
        return bool(await self._one("told", *end, ms_from_utc(ended_at)) != "given_up")

    # --- a broker other than Redis

    async def take_outgoing(self, limit: int, *, wait_s: float) -> list[str]:
        """Take up to `limit` ids from the outbox; waits up to `wait_s` for the first."""
        ids = await self._patiently(lambda: self.redis.rpop(keys.OUTBOX, limit))
        if ids:
            return [str(task_id) for task_id in ids]
        found = await self._patiently(lambda: self.redis.brpop(keys.OUTBOX, timeout=wait_s))
        return [str(found[1])] if found else []

    async def outgoing_messages(self, ids: Sequence[str]) -> list[OutgoingMessage]:
        """Return the messages of those tasks that still wait."""
        found = await self._one("outgoing", *ids)
        return [OutgoingMessage(group, int(priority), envelope) for group, priority, envelope in found]

    async def return_outgoing(self, ids: Sequence[str]) -> None:
        """Put ids that could not be published back into the outbox, to be taken next."""
        await self._patiently(lambda: self.redis.rpush(keys.OUTBOX, *reversed(ids)))


def number_text(value: float) -> str:
    """Return a number as JSON writes it, whole numbers without a decimal point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters; a text that was cut ends in an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def log_data_text(data: Mapping[str, Any]) -> str:
    """Return the data of a log line as JSON, '' for none. Data that is too large is replaced by its names and size."""
    if not data:
        return ""
    encoded = json_text.describe(without_secrets(dict(data)), text=lambda one: redact(ascii(one)))
    size = len(encoded.encode())
    if size > MAX_LOG_DATA:
        names = [str(name)[:256] for name in list(data)[:20]]
        encoded = json_text.describe({"left_out": names, "bytes": size})
    return encoded


def _check_claim(claim: Claim, reply: Any) -> None:
    if isinstance(reply, str) and reply.startswith("stale:"):
        raise StaleClaimError(claim.task_id, reply.removeprefix("stale:"))
