"""Handlers that keep steps, sleep, wait for signals and call others, in one process and without a server."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from celeriac import Context, SkipRetry, TaskFailedError, WaitTimeoutError
from celeriac.errors import InvalidSubmissionError, RateLimited, RetryAfter
from celeriac.handlers.context import BlockingContext
from celeriac.handlers.durable import AttemptSuspended, suspended_by
from celeriac.model import AwaitedSignal, Dependency, Failure, Status, When
from celeriac.settings import Settings, StepSettings
from celeriac.tasks.registry import task
from celeriac.testing import TaskOutcome, run_task


class Decision(BaseModel):
    approved: bool
    note: str = ""


class Calls:
    """Counts what is done."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def charge(self, order: str) -> Decision:
        self.made.append(f"charge {order}")
        return Decision(approved=True, note=order)

    async def mail(self, to: str) -> str:
        self.made.append(f"mail {to}")
        return to.upper()


_numbers = itertools.count()


def of(handler: Any, **options: Any) -> Any:
    """Return a task type of a function."""
    return task(f"durable-{next(_numbers)}", **options)(handler)


def ended(handler: Any, **given: Any) -> TaskOutcome:
    return run_task(of(handler), **given)


def test_finished_steps_are_not_done_again() -> None:
    calls, runs = Calls(), []

    async def order(ctx: Context) -> list[Any]:
        runs.append(ctx.attempt)
        paid = await ctx.step("charge", calls.charge, "A-1")
        decision = await ctx.wait_for("approval", schema=Decision)
        await ctx.sleep("3d")
        mailed = [await ctx.step("mail", calls.mail, to=name) for name in ("a", "b")]
        return [paid.note, decision.approved, mailed]

    outcome = run_task(of(order), signals={"approval": {"approved": False}})
    assert outcome.exception is None
    assert (outcome.status, outcome.result) == (Status.COMPLETED, ["A-1", False, ["A", "B"]])
    assert calls.made == ["charge A-1", "mail a", "mail b"]
    assert runs == [1, 1], "the sleep suspended it once, and it is the same attempt"


def test_a_plain_function_does_the_same_without_await() -> None:
    calls = Calls()

    def order(ctx: BlockingContext) -> list[Any]:
        paid = ctx.step("charge", calls.charge, "A-1")
        ctx.sleep(timedelta(days=3))
        ctx.sleep_until(datetime.now(UTC) + timedelta(days=9))
        decision = ctx.wait_for("approval", schema=Decision)
        mailed = ctx.step("mail", calls.mail, "a")
        ids = [ctx.spawn("resize", {"n": n}) for n in range(3)]
        return [paid.note, decision.approved, mailed, ctx.gather(ids), ctx.call("scale", {"by": 2})]

    children = {"resize": lambda p: p["n"] * 10, "resize#2": 5, "resize#3": None, "scale": "done"}
    outcome = run_task(of(order), signals={"approval": {"approved": True}}, children=children)
    assert outcome.exception is None, outcome.exception
    assert outcome.result == ["A-1", True, "A", [0, 5, None], "done"]
    assert calls.made == ["charge A-1", "mail a"]
    assert [(child.node, child.payload) for child in outcome.children] == [
        ("resize", {"n": 0}), ("resize#2", {"n": 1}), ("resize#3", {"n": 2}), ("scale", {"by": 2}),
    ]  # fmt: skip


def test_what_never_comes_leaves_the_task_waiting() -> None:
    async def order(ctx: Context) -> None:
        await ctx.gather(ctx.call("resize"), ctx.wait_for("approval", schema=bool, title="Refund?"))

    outcome = ended(order)
    assert outcome.status is Status.WAITING
    (child,) = outcome.children
    assert outcome.waiting_for == (
        Dependency(child.task_id, When.ENDED),
        AwaitedSignal("approval", "Refund?", {"type": "boolean"}),
    )


def test_a_wait_that_times_out_has_its_default_or_raises() -> None:
    async def with_default(ctx: Context) -> Any:
        return await ctx.wait_for("approval", timeout="3d", default="nobody")

    async def without(ctx: Context) -> Any:
        await ctx.wait_for("approval", timeout="3d")

    async def catches(ctx: Context) -> Any:
        try:
            return await ctx.wait_for("approval", timeout=60)
        except WaitTimeoutError:
            return await ctx.wait_for("approval", timeout=60, default="twice")

    assert ended(with_default).result == "nobody"
    assert ended(without).error == Failure("wait_timeout", "the signal approval has not come in time", False)
    assert ended(catches).result == "twice"


def test_a_value_that_does_not_fit_is_dropped_with_a_line_in_the_log() -> None:
    async def order(ctx: Context) -> None:
        await ctx.wait_for("approval", schema=Decision)

    outcome = ended(order, signals={"approval": "yes"})
    assert (outcome.status, [line.data["signal"] for line in outcome.log]) == (Status.WAITING, ["approval"])


def test_a_json_schema_is_refused_where_a_type_is_wanted() -> None:
    async def order(ctx: Context) -> None:
        await ctx.wait_for("approval", schema={"type": "boolean"})

    error = ended(order).error
    assert error is not None
    assert "schema: is a JSON schema: give the type of the value instead" in error.message


def test_suspending_passes_except_exception_and_runs_finally() -> None:
    seen: list[str] = []

    async def order(ctx: Context) -> str:
        try:
            try:
                await ctx.sleep("1d")
            except Exception:
                seen.append("caught")
        finally:
            seen.append("finally")
        return "done"

    assert (ended(order).result, seen) == ("done", ["finally", "finally"])


def test_a_step_is_tried_again_and_its_failure_is_that_of_the_handler() -> None:
    tries: list[int] = []

    def flaky(most: int) -> int:
        tries.append(1)
        if len(tries) <= most:
            raise RetryAfter("not yet", delay_s=9) if len(tries) % 2 else ConnectionError("away")
        return len(tries)

    def final() -> None:
        tries.append(1)
        raise SkipRetry("for good", code="refused")

    def busy() -> None:
        tries.append(1)
        raise RateLimited(retry_after=30)

    async def order(ctx: Context) -> int:
        return await ctx.step("flaky", flaky, 2, retries=2)

    def plain(ctx: BlockingContext) -> int:
        return ctx.step("flaky", flaky, 2, retries=2)

    async def fails(ctx: Context) -> None:
        await ctx.step("final", final, retries=5)

    async def told(ctx: Context) -> None:
        await ctx.step("told", busy, retries=5)

    def told_in_thread(ctx: BlockingContext) -> None:
        ctx.step("told", busy, retries=5)

    for handler in (order, plain):
        tries.clear()
        assert ended(handler).result == 3
    for handler in (told, told_in_thread):
        tries.clear()
        assert (ended(handler).status, len(tries)) == (Status.PENDING, 1)
    tries.clear()
    assert ended(fails).error == Failure("refused", "for good", False)
    assert len(tries) == 1


def test_children_that_fail_fail_their_parent_for_good_unless_it_catches_that() -> None:
    async def order(ctx: Context) -> None:
        await ctx.gather(ctx.call("good"), ctx.call("bad", name="b"))

    async def catches(ctx: Context) -> str:
        try:
            await ctx.call("bad", name="b")
        except TaskFailedError as exc:
            return exc.code
        return ""

    children = {"b": SkipRetry("no", code="refused"), "good": 1}
    outcome = ended(order, children=children)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("refused", False)
    assert ended(catches, children=children).result == "refused"


def test_a_result_of_a_child_is_read_as_its_type_says() -> None:
    async def decide() -> Decision:
        raise AssertionError("the test says what it returns")

    decided = of(decide)

    async def order(ctx: Context) -> bool:
        decision = await ctx.call(decided)
        return isinstance(decision, Decision) and decision.approved

    assert ended(order, children={decided.name: {"approved": True}}).result is True


def test_parents_are_given_by_id() -> None:
    async def order(total: int, ctx: Context) -> list[Any]:
        return [total, ctx.parents["p"].result, ctx.parents["q"].status]

    outcome = ended(order, payload={"total": {"$result": "p"}}, parents={"p": 7, "q": ValueError("x")})
    assert outcome.result == [7, 7, "failed"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (StepSettings(most=2), "has kept 2 steps"),
        (StepSettings(max_result_bytes=10), "is above 10 bytes"),
        (StepSettings(max_task_bytes=30), "above 30 bytes"),
        (StepSettings(max_sleep=60), "may take at most 60 s"),
    ],
)
def test_limits_fail_the_task_for_good(limits: StepSettings, said: str) -> None:
    async def order(ctx: Context) -> None:
        for _ in range(3):
            await ctx.step("step", lambda: "a result of it")
        await ctx.sleep("1d")

    outcome = ended(order, settings=Settings(steps=limits))
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("step_limit", False)
    assert said in outcome.error.message


def test_a_result_that_cannot_be_written_and_bad_input_say_so() -> None:
    async def unwritable(ctx: Context) -> None:
        await ctx.step("step", lambda: object())

    async def signal(ctx: Context) -> None:
        await ctx.wait_for("not a name")

    async def sleep(ctx: Context) -> None:
        await ctx.sleep("soon")

    async def negative(ctx: Context) -> None:
        await ctx.sleep(-1)

    async def nameless(ctx: Context) -> None:
        await ctx.step("", lambda: 1)

    assert "cannot be written as JSON" in str(ended(unwritable).exception)
    for handler, said in (
        (signal, "name of a signal"),
        (sleep, "duration"),
        (negative, "negative"),
        (nameless, "name"),
    ):
        outcome = ended(handler)
        assert isinstance(outcome.exception, InvalidSubmissionError)
        assert said in str(outcome.exception)


def test_steps_at_once_are_kept_before_the_attempt_is_suspended() -> None:
    calls = Calls()

    async def slowly(to: str) -> str:
        await asyncio.sleep(0.02)
        return await calls.mail(to)

    async def order(ctx: Context) -> list[Any]:
        return list(await asyncio.gather(ctx.wait_for("go"), ctx.step("slow", slowly, "a"), ctx.sleep("1d")))

    async def in_a_group(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep("1d"))  # type: ignore[arg-type]
            group.create_task(ctx.sleep("2d"))  # type: ignore[arg-type]

    assert ended(order, signals={"go": 1}).result == [1, "A", None]
    assert calls.made == ["mail a"]
    assert ended(in_a_group).status is Status.COMPLETED


def test_a_cancellation_ends_a_handler_that_sleeps_or_waits() -> None:
    async def order(ctx: Context) -> None:
        await ctx.progress(1)
        await ctx.sleep("1d")

    def plain(ctx: BlockingContext) -> None:
        ctx.progress(1)
        ctx.sleep("1d")

    for handler in (order, plain):
        assert ended(handler, cancel_when=lambda _: True).status is Status.CANCELLED


def test_a_group_of_exceptions_is_a_suspension_if_each_one_is() -> None:
    assert suspended_by(BaseExceptionGroup("x", [AttemptSuspended([]), AttemptSuspended([])])) == ()
    assert suspended_by(BaseExceptionGroup("x", [AttemptSuspended([]), ValueError()])) is None
    assert suspended_by(ValueError()) is None
