"""Celery's result backend: `AsyncResult` reads the record of a task, and what Celery itself stores beside it.

Celery stores more of a plain task than a record has: the class and arguments of an exception, typed values, children,
custom states, saved groups, the parts of chords. All this lies under Celery's own keys in the store, as with Celery's
Redis backend. The record decides what counts: it alone knows that a task was cancelled, timed out, expired or lost
with its worker, or that somebody retries it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from celery import states
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from celery.backends.redis import ResultConsumer as RedisConsumer
from celery.exceptions import BackendStoreError, TaskRevokedError
from celery.result import AsyncResult, ResultSet
from kombu.utils.encoding import bytes_to_str, ensure_bytes

from celeriac.errors import StoreUnavailableError
from celeriac.handlers.running import HANDLER_RUNS
from celeriac.model import Status, Task
from celeriac.settings.store_address import read_store_address
from celeriac.store import keys
from celeriac.store.server.connecting import StorePool, use_address
from celeriac.store.server.listener import Question, StateListener
from celeriac.store.watching.ends import STORED, goes_on
from celeriac.task_fields import status_of
from celeriac_tasks.engine.attempts.base import ATTEMPT
from celeriac_tasks.engine.calls.nodes import following_group
from celeriac_tasks.engine.ends.exceptions import exception_of
from celeriac_tasks.engine.ends.unreached import cancel_body, cancel_later_link

_STATES: Final = {
    Status.WAITING: states.PENDING,
    Status.SCHEDULED: states.PENDING,
    Status.PENDING: states.PENDING,
    Status.PROCESSING: states.STARTED,
    Status.RETRYING: states.RETRY,
    Status.COMPLETED: states.SUCCESS,
    Status.FAILED: states.FAILURE,
    Status.CANCELLED: states.REVOKED,
}
#: States that Celery or the record sets by itself; all others are a task's own (`update_state`).
_KNOWN: Final[frozenset[str]] = states.ALL_STATES
_SUCCESS, _FAILURE, _RETRY = str(states.SUCCESS), str(states.FAILURE), str(states.RETRY)
_STARTED: Final = str(states.STARTED)
#: States that no message tells of.
_UNHEARD: Final = frozenset({str(states.PENDING), _STARTED, *states.READY_STATES})
#: Codes of failures that the platform decides; Celery stores nothing about them, or something earlier.
_DECIDED_HERE: Final = frozenset({"cancelled", "expired", "timeout", "worker_lost"})
#: Whether this thread joins the parts of a chord.
_JOINING: Final = ContextVar("joining", default=False)
#: Whether this thread is going to ask for the state of the task that it begins to listen for.
_ASKS_NEXT: Final = ContextVar("asks_next", default=False)
#: Who waits for a result looks at its state after the first of these times, and later at most after the second one (s).
_LOOKS_S: Final = (2.0, 30.0)
#: How long the answer to a question may take over a connection that still works (s).
_ANSWER_S: Final = 3.0
#: How long somebody who begins to wait puts up with a store that is away, and the pause between two looks (s).
_PATIENCE_S: Final = 30.0
_PAUSE_S: Final = 0.2
#: States that one of these looks reads at once.
_LOOKED_AT_ONCE: Final = 500
#: The longest state that is published when it is stored (bytes): who waits reads a longer one.
_MOST_PUBLISHED: Final = 65_536
#: What a stored state may be longer than the result in it (bytes): names, children, a traceback.
_BESIDE_THE_RESULT: Final = 65_536


#: What is called with each state of a task that becomes known (`get(on_message=...)`).
Hears = Callable[[dict[str, Any]], object]


class RecordConsumer(RedisConsumer):
    """Waits for results: each event of a task wakes the callers that wait for it, and its end tells them the state.

    Who begins to wait subscribes, and then asks how the task is, over one connection: no event is lost between them.
    That connection may be lost with events, so who waits for long looks by itself too, from time to time.
    """

    #: What the `get` that waits just now wants to be told of.
    on_message: Hears | None
    #: Errors after which it connects and subscribes again.
    _connection_errors: tuple[type[BaseException], ...]
    #: The connection, None before anybody has waited.
    _pubsub: StateListener | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It subscribes to the channel on which the life cycle announces events.
        self._get_key_for_task = keys.live
        #: Successes that Celery has stored, of tasks whose records have not completed yet.
        self._stored: dict[str, dict[str, Any]] = {}
        # Who waits goes on when the store is back.
        self._connection_errors = (*self._connection_errors, StoreUnavailableError)

    # --- who begins to wait

    def on_wait_for_pending(
        self, result: Any, timeout: float | None = None, hears: Hears | None = None, **kwargs: Any
    ) -> None:
        """Look at the states before the wait; while the store is away for a moment, again and again.

        `hears` is told of states of a task's own that it had before: with stock Celery, who publishes listens already.
        """
        single = isinstance(result, AsyncResult) and result._cache is None
        #: What came as a message while the question was open.
        told: list[dict[str, Any]] = []
        if single and (self._has_nothing_to_tell(result.id, hears, told) or result._cache is not None):
            return
        give_up_at = time.monotonic() + min(_PATIENCE_S, _PATIENCE_S if timeout is None else timeout)
        while True:
            try:
                super().on_wait_for_pending(result, timeout=timeout, **kwargs)
                if hears is not None:
                    for meta in self._states_of(result):
                        if meta["status"] not in _UNHEARD and not any(_is_same(meta, one) for one in told):
                            hears(meta)
                return
            except StoreUnavailableError:
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(_PAUSE_S)

    def _has_nothing_to_tell(self, task_id: str, hears: Hears | None, told: list[dict[str, Any]]) -> bool:
        """Ask whether a task goes on, and Celery has stored no state of it; False if that is not known in time.

        If it has succeeded, who waits has the result afterwards. `hears` is told of messages that come with the answer,
        which are added to `told`.
        """
        question: Question | None = None
        with self._locked():
            listener = self._pubsub
            if listener is None or not listener.answers or self._get_key_for_task(task_id) not in self.subscribed_to:
                return False
            with self.reconnect_on_error():
                question = listener.ask(keys.task(task_id), bytes_to_str(self.backend.get_key_for_task(task_id)))
        if question is None:
            return False
        give_up_at = time.monotonic() + _ANSWER_S

        def hear(meta: dict[str, Any]) -> None:
            told.append(meta)
            if hears is not None:
                hears(meta)

        before, self.on_message = self.on_message, hear
        try:
            while question.open and (left_s := give_up_at - time.monotonic()) > 0:
                self.drain_events(timeout=left_s)
        finally:
            self.on_message = before
        if question.open:
            with self._locked():
                if self._pubsub is listener:
                    # Nothing comes over this connection any more.
                    self._reconnect()
        if question.open or question.lost:
            return False
        status = None if question.status is None else status_of(question.status)
        if question.value is None:
            return status is None or not status.final
        if status is Status.COMPLETED:
            state = self.backend.decode_result(question.value)
            if state["status"] == _SUCCESS:
                self.on_state_change(state, None)
        return False

    # --- messages

    def _drain_one(self, pubsub: StateListener, timeout: float | None) -> bool:
        found = True
        with self.reconnect_on_error():
            found = bool(pubsub.heard) or pubsub.read()
            while pubsub.heard:
                # One by one: a message whose hearer raises an error is gone, those after it are not.
                channel, text = pubsub.heard.popleft()
                if channel.decode() in self.subscribed_to and (meta := self._told(_task_of(channel), text)) is not None:
                    self.on_state_change(meta, None)
        return found

    def _told(self, task_id: str, text: bytes) -> dict[str, Any] | None:
        """Return the state of a task of which a message tells, None if nobody needs to know it.

        Celery's state of a success may come first, and counts as soon as the record says that the task has completed.
        """
        what, _, stored = text.partition(b"\n")
        kind = what.partition(b" ")[2].decode()
        if stored:
            state: dict[str, Any] = self.backend.decode_result(stored)
            if state["status"] == _SUCCESS:
                if kind == Status.COMPLETED.stored:
                    self._stored.pop(task_id, None)
                    return state
                self._stored[task_id] = state
                return None
            if state["status"] not in _KNOWN:
                return state
        elif kind == Status.COMPLETED.stored and (held := self._stored.pop(task_id, None)) is not None:
            return held
        elif kind != STORED and goes_on(kind):
            self._stored.pop(task_id, None)
            return None
        found: dict[str, Any] = self.backend.get_task_meta(task_id, cache=False)
        return None if found["status"] in (states.PENDING, states.STARTED) else found

    def _wait_for_pending(
        self, result: Any, timeout: float | None = None, on_interval: Any = None, **kwargs: Any
    ) -> Iterator[None]:
        pause_s = _LOOKS_S[0]
        look_at = time.monotonic() + pause_s

        looked = False

        def look() -> None:
            nonlocal pause_s, look_at, looked
            looked = True
            if on_interval is not None:
                on_interval()
            if time.monotonic() >= look_at:
                with contextlib.suppress(StoreUnavailableError):
                    self._look_at(result)
                pause_s = min(2 * pause_s, _LOOKS_S[1])
                look_at = time.monotonic() + pause_s

        hears = kwargs.get("on_message")
        yield from super()._wait_for_pending(result, timeout=timeout, on_interval=look, hears=hears, **kwargs)
        if not looked and on_interval is not None and isinstance(result, AsyncResult) and result.failed():
            # It failed before the wait began. Celery looks here at those before it in a chain, whose error comes first.
            on_interval()

    def _look_at(self, result: Any) -> None:
        """Read the states of what has not ended as far as this process knows, and tell who waits.

        Who waits is told here too if Celery does not know it any more: threads that begin and end to wait for the same
        task at the same moment, or an object of it that Python collects then, can make Celery lose one of them.
        """
        waiting = {one.id: one for one in results_in(result) if one._cache is None}
        for meta in self._states_of(result):
            if meta["status"] in states.READY_STATES:
                self.on_state_change(meta, None)
                if (one := waiting.get(meta["task_id"])) is not None and one._cache is None:
                    one._maybe_set_cache(meta)

    def _states_of(self, result: Any) -> Iterator[dict[str, Any]]:
        """Return the states of what has not ended as far as this process knows."""
        unknown = [one.id for one in results_in(result) if one._cache is None]
        for first in range(0, len(unknown), _LOOKED_AT_ONCE):
            yield from self.backend._metas(unknown[first : first + _LOOKED_AT_ONCE])

    # --- the connection

    def start(self, initial_task_id: str, **kwargs: Any) -> None:
        """Connect, and listen for this task too."""
        with self._locked():
            self.subscribed_to.add(self._get_key_for_task(initial_task_id))
            with self.reconnect_on_error():
                self._listen()

    def consume_from(self, task_id: str) -> None:
        """Listen for a task."""
        if self._pubsub is not None and self._pubsub.pid != os.getpid():
            # A fork that Celery was not told of: the connection is the parent's.
            self.on_after_fork()
        super().consume_from(task_id)

    def on_after_fork(self) -> None:
        """Leave the parent's connection alone, and what the parent waits for."""
        super().on_after_fork()
        self._pubsub = None
        self.subscribed_to.clear()
        self._stored.clear()

    def cancel_for(self, task_id: str) -> None:
        """Stop listening for a task; at the end of the process there is nothing left to stop."""
        self._stored.pop(task_id, None)
        if not sys.is_finalizing():
            super().cancel_for(task_id)

    def _consume_from(self, task_id: str) -> None:
        key = self._get_key_for_task(task_id)
        self._pending_unsubscribe.discard(key)
        if key not in self.subscribed_to:
            self.subscribed_to.add(key)
            with self.reconnect_on_error():
                assert self._pubsub is not None
                self._pubsub.subscribe(key, with_next=self._pubsub.answers and _ASKS_NEXT.get())

    def _listen(self) -> None:
        """Make a connection that hears of all that is waited for."""
        self._pubsub = StateListener(self.backend.client.connection_pool)
        if self.subscribed_to:
            self._pubsub.subscribe(*self.subscribed_to)

    def _reconnect_pubsub(self) -> None:
        with self._locked():
            lost, self._pubsub = self._pubsub, None
            if lost is not None:
                lost.close()
            self.backend.client.connection_pool.reset()
            self.subscribed_to -= self._pending_unsubscribe
            self._pending_unsubscribe.clear()
            self._stored.clear()
            self._listen()
            # Events were lost meanwhile.
            for channel in list(self.subscribed_to):
                if (meta := self._told(_task_of(channel), b"")) is not None:
                    self.on_state_change(meta, None)


def results_in(result: Any) -> Iterator[Any]:
    """Return the results of single tasks that a result, or a set of results, consists of."""
    if isinstance(result, ResultSet):
        for one in result.results:
            yield from results_in(one)
    else:
        yield result


def _refuse_handlers() -> None:
    """Raise an error in a handler of a task type: it would hold its worker's slot while it waits."""
    if HANDLER_RUNS.get():
        raise RuntimeError(
            "a handler must not wait with AsyncResult.get(), which holds its slot of the worker: use "
            "`await ctx.call(TYPE, payload)`, or `ctx.call(...)` in a plain function"
        )


class RecordBackend(RedisBackend):
    """A result backend on the store.

    `get` raises what the task raised if the class can be imported, `TimeLimitExceeded`, `WorkerLostError` or
    `TaskRevokedError` for a timeout, a lost worker or a cancellation, and `TaskFailedError` with code and message for
    all other failures. An id without a record is PENDING, as in Celery: a task of a chain gets its record when its
    turn comes.
    """

    ResultConsumer = RecordConsumer

    #: Errors after which Celery tries again.
    connection_errors: tuple[type[BaseException], ...]

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        self._address = address = read_store_address(app.celeriac_settings.redis_url)
        super().__init__(app=app, url=address.url if address.url.startswith("unix:") else None, **kwargs)
        self.connection_errors = (*self.connection_errors, StoreUnavailableError)

    def as_uri(self, include_password: bool = False) -> str:
        """Return the address that Celery's banner shows."""
        return "celeriac://"

    def _get_pool(self, **parameters: Any) -> Any:
        return StorePool(**use_address(parameters, self._address, self.app.celeriac_settings.key_prefix))

    def add_pending_result(self, result: Any, weak: bool | None = None, start_drainer: bool = True) -> Any:
        """Listen for a result. Only `AsyncResult.get` does not say whether `weak`; it waits at once, and so asks."""
        before = _ASKS_NEXT.set(weak is None)
        try:
            return super().add_pending_result(result, weak=bool(weak), start_drainer=start_drainer)
        finally:
            _ASKS_NEXT.reset(before)

    def wait_for_pending(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for a result, as `AsyncResult.get` does; a handler of a task type must not."""
        _refuse_handlers()
        return super().wait_for_pending(result, *args, **kwargs)

    def iter_native(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for several results, as `ResultSet.get` does; a handler of a task type must not."""
        _refuse_handlers()
        return super().iter_native(result, *args, **kwargs)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing: a caller that reads no result does not listen for it."""

    def mget(self, keys: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the states of tasks by Celery's keys."""
        return self._metas([self._strip_prefix(key) for key in keys])

    def _mget_to_results(self, values: Iterable[dict[str, Any]], keys: Iterable[str], ready: Any) -> dict[str, Any]:
        return {key: meta for key, meta in zip(keys, values, strict=True) if meta["status"] in ready}

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        (meta,) = self._metas([task_id])
        return meta

    def _metas(self, task_ids: Sequence[str]) -> list[dict[str, Any]]:
        found = self.app.records.find_with([(task_id, self.get_key_for_task(task_id)) for task_id in task_ids])
        return [
            self._state(task_id, self.decode_result(stored) if stored else None, task)
            for task_id, (task, stored) in zip(task_ids, found, strict=True)
        ]

    def stored_apart(self, task_id: str) -> dict[str, Any]:
        """Return the state that Celery has stored of a task, unless an attempt stored it; PENDING if there is none."""
        stored = self.get(self.get_key_for_task(task_id))
        state: dict[str, Any] = self.decode_result(stored) if stored else {}
        return state if state and "attempt" not in state else {"task_id": task_id, "status": states.PENDING}

    def _state(self, task_id: str, stored: dict[str, Any] | None, task: Task | None) -> dict[str, Any]:
        if task is None or (stored is not None and stored_counts(stored, task, joining=_JOINING.get())):
            return stored or {"task_id": task_id, "status": states.PENDING, "result": None}
        state, result, trace = _STATES[task.status], task.result, None
        if state in states.EXCEPTION_STATES:
            result = exception_of(task)
            if isinstance(result, TaskRevokedError):
                state = states.REVOKED
            elif state == states.FAILURE:
                trace = self.app.records.traceback_of(task_id, task.attempt) or None
        return {
            "task_id": task_id,
            "status": state,
            "result": result,
            "traceback": trace,
            "children": (stored or {}).get("children"),
            "date_done": task.finished_at,
            "name": task.type,
            "worker": task.worker,
            "retries": max(task.attempt - 1, 0),
            "queue": task.group,
        }

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Prepare for the parts of a chord, before the first one is published.

        A frozen chord that is applied again has its group's id, and Celery forgets only with the last part that this
        group was done: it would count no part that ends before that, and the body would never run.
        """
        self.client.delete(self.get_key_for_group(header_result_args[0], ".c"))
        super().apply_chord(header_result_args, body, **kwargs)

    def on_chord_part_return(self, request: Any, state: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Count a part of a chord. The last one joins all parts, itself included, before its own record ends."""
        before = _JOINING.set(True)
        try:
            cancel_later_link(self.app, request)
            with following_group(request.group):
                return super().on_chord_part_return(request, state, result, *args, **kwargs)
        finally:
            _JOINING.reset(before)

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> Any:
        """Fail the body of a chord whose header failed. It gets a record, which is cancelled."""
        told = super().chord_error_from_stack(callback, exc)
        cancel_body(self.app, callback, exc)
        return told

    def mark_as_started(self, task_id: str, **meta: Any) -> None:
        """Do nothing: the record says that the task has started."""

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if state == _STARTED:
            # As `mark_as_started`. Celery's tracer says it before the claim, also for a message that comes once more.
            return result
        value = self._value_of(task_id, result, state, traceback, request)
        if request is None and self._get_task_meta_for(task_id)["status"] == states.SUCCESS:
            # Nobody holds a claim on it: a late failure of a chain or chord does not undo a success.
            return result
        self._set_with_state(self.get_key_for_task(task_id), value, state)
        return result

    def _value_of(self, task_id: str, result: Any, state: str, traceback: Any, request: Any) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        attempt = getattr(request, ATTEMPT, None)
        number = {} if attempt is None else {"attempt": attempt.claim.attempt}
        value = self.encode({**meta, **number, "task_id": task_id})
        most = self.app.celeriac_settings.max_result_bytes + _BESIDE_THE_RESULT
        if len(value) > most:
            raise BackendStoreError(f"the result is {len(value)} bytes, above max_result_bytes", task_id=task_id)
        return value

    def success_with_end(self, task_id: str, result: Any, request: Any) -> bytes:
        """Return the state of a success, to be stored in one call with the end of the record (see `complete.lua`).

        Raises as `store_result` does.
        """
        value = self._value_of(task_id, self.encode_result(result, _SUCCESS), _SUCCESS, None, request)
        kept_s = int(self.expires) if self.expires else ""
        head: bytes = ensure_bytes(f"{bytes_to_str(self.get_key_for_task(task_id))}\n{kept_s}\n")
        return head + bytes(ensure_bytes(value))

    def _set(self, key: Any, value: Any, expires: float | None = None) -> None:
        with self.client.pipeline() as pipe:
            pipe.set(key, value, ex=(self.expires if expires is None else expires) or None)
            told = (
                b"\n" + (value if isinstance(value, bytes) else str(value).encode())
                if len(value) <= _MOST_PUBLISHED
                else b""
            )
            pipe.publish(keys.live(self._strip_prefix(key)), b"- " + STORED.encode() + told)
            pipe.execute()


class StorelessBackend(DisabledBackend):
    """The backend of an app as long as no store is found: results cannot be read, and it says why."""

    def __init__(self, app: Any, missing: Exception) -> None:
        super().__init__(app)
        self._missing = missing

    def ensure_chords_allowed(self) -> None:
        """Raise the error that says what is missing."""
        raise self._missing

    def _is_disabled(self, *args: Any, **kwargs: Any) -> Any:
        raise self._missing

    get_state = get_status = get_result = get_traceback = _is_disabled
    get_task_meta_for = wait_for = get_many = on_task_call = _is_disabled


def stored_counts(stored: Mapping[str, Any], task: Task, *, joining: bool = False) -> bool:
    """Whether the state that Celery stored of a task says how it is, rather than the record.

    Celery stores the end of an attempt just before the record ends, so what is stored may be early, or of an attempt
    that a retry has made obsolete. A failure counts at once: what waits for the task in a canvas is told of it already.
    So does a success for what joins the parts of a chord (`joining`), which is one of these parts itself.
    """
    state: str = stored["status"]
    own, failed = state not in _KNOWN, state == _FAILURE
    returned = failed or (joining and state == _SUCCESS)
    match task.status:
        case Status.COMPLETED:
            # A task that was ignored may have stored its failure itself.
            return own or state == _SUCCESS or (failed and stored.get("attempt") == task.attempt)
        case Status.FAILED:
            return failed and (task.error is None or task.error.code not in _DECIDED_HERE)
        case Status.PROCESSING:
            return own or (returned and stored.get("attempt") == task.attempt)
        case Status.RETRYING:
            return state == _RETRY
        case Status.SCHEDULED:
            return failed and task.replaced_by is not None
        case Status.CANCELLED:
            # The body of a chord whose header failed: Celery says which part it was.
            return failed and task.error is not None and task.error.code == "dependency_failed"
        case _:
            return False


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of tasks say the same."""
    return all(one.get(name) == other.get(name) for name in ("task_id", "status", "result"))


def _task_of(channel: Any) -> str:
    """Return the id of the task that a channel of the life cycle is about."""
    name = channel.decode() if isinstance(channel, bytes) else str(channel)
    return name.removeprefix(keys.live(""))
