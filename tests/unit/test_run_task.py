"""`celeriac.testing.run_task`: one attempt as a worker runs it, without a worker."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from celeriac import Context, Progress, Settings, Status, TaskType, task
from celeriac.errors import InvalidSubmissionError, PayloadTooLargeError, RateLimited, TaskTimeoutError
from celeriac.testing import TaskOutcome, run_task, run_task_async
from tests.kit.up import platform_types as kit


def test_a_completed_attempt_has_its_result_as_callers_read_it_and_its_reports() -> None:
    outcome = run_task(kit.report, {"customer": 7})
    assert outcome.status is Status.COMPLETED
    assert outcome.result == {"pages": 2, "at": "2030-01-01T00:00:00+00:00"}
    assert [(report.percentage, report.stage, report.message) for report in outcome.progress] == [
        (0, "writing", "page 0"),
        (50, "writing", "page 1"),
        (100, "done", ""),
    ]
    assert outcome.result_file_path == "/tmp/report.pdf"
    assert (outcome.error, outcome.exception, outcome.would_retry_in_s) == (None, None, None)


def test_the_payload_may_be_a_model_as_for_a_client() -> None:
    assert run_task(kit.report, kit.Pages(customer=1, pages=1)).result["pages"] == 1


@pytest.mark.parametrize(
    ("payload", "field"),
    [({}, "payload.customer"), ({"customer": "x"}, "payload.customer"), ({"customer": object()}, "payload.customer")],
)
def test_a_payload_that_a_submission_would_refuse_is_refused(payload: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSubmissionError) as caught:
        run_task(kit.report, payload)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_options_are_checked_as_at_submission() -> None:
    with pytest.raises(InvalidSubmissionError, match="max_retries"):
        run_task(kit.report, {"customer": 7}, max_retries=-1)
    with pytest.raises(PayloadTooLargeError):
        run_task(kit.report, {"customer": 7, "more": "x" * 2000}, settings=Settings(max_body_bytes=1000))


def test_the_context_knows_what_the_submission_said() -> None:
    outcome = run_task(kit.plain, {"customer": 7}, attempt=2, user_id="ann", metadata={"a": [1]}, max_retries=4)
    assert outcome.result == {
        "customer": 7,
        "user": "ann",
        "metadata": {"a": [1]},
        "attempt": 2,
        "max_retries": 4,
        "group": "kit",
        "type": "kit.plain",
        "extra": {},
    }


def test_a_handler_may_take_nothing_or_a_secret() -> None:
    assert run_task(kit.bare).status is Status.COMPLETED
    assert run_task(kit.login, {"password": "hunter2"}).result == 7


def test_skip_retry_fails_at_once_with_its_code() -> None:
    outcome = run_task(kit.skips, {"customer": 0})
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("unknown_customer", "there is no customer 0")
    assert not outcome.error.retryable
    assert outcome.would_retry_in_s is None


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 300), (2, 600), (3, 1200)])
def test_what_a_handler_raises_would_be_retried_with_the_backoff_of_its_type(attempt: int, delay_s: float) -> None:
    outcome = run_task(kit.raises, attempt=attempt)
    assert outcome.status is Status.RETRYING
    assert outcome.would_retry_in_s == delay_s
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message, outcome.error.retryable) == (
        "exception",
        "ValueError: wrong",
        True,
    )
    assert isinstance(outcome.exception, ValueError)
    assert outcome.exception.__traceback__ is not None


@pytest.mark.parametrize(
    ("retry_after", "again_s"), [(30, 30.0), ("90", 90.0), ("2m", 120.0), (timedelta(hours=1), 3600.0), (0, 0.0)]
)
def test_what_was_told_to_come_back_later_does_not_count(retry_after: float | str | timedelta, again_s: float) -> None:
    @task("asks", max_retries=0)
    async def asks() -> None:
        raise RateLimited("429", retry_after=retry_after)

    @task("asks_in_thread", max_retries=0)
    def asks_in_thread() -> None:
        raise ExceptionGroup("all", [RateLimited(retry_after=0), RateLimited("429", retry_after=retry_after)])

    for handler in (asks, asks_in_thread):
        outcome = run_task(handler)
        assert (outcome.status, outcome.error, outcome.would_retry_in_s) == (Status.PENDING, None, again_s)
        assert [line.data["retry_after_s"] for line in outcome.log] == [again_s]


@pytest.mark.parametrize("wrong", ["tomorrow", "", -1, float("nan"), float("inf"), True, None, [30]])
def test_a_time_that_nobody_can_wait_is_a_mistake_of_the_handler(wrong: Any) -> None:
    @task("asks_wrongly", max_retries=0)
    async def asks() -> None:
        raise RateLimited(retry_after=wrong)

    outcome = run_task(asks)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (Status.FAILED, "exception")
    assert "is not a duration: write" in outcome.error.message


def test_the_last_attempt_fails_for_good() -> None:
    outcome = run_task(kit.raises, attempt=4)
    assert (outcome.status, outcome.would_retry_in_s) == (Status.FAILED, None)


@pytest.mark.parametrize("attempt", [0, 5])
def test_an_attempt_that_cannot_be_is_a_mistake_of_the_test(attempt: int) -> None:
    with pytest.raises(ValueError, match="the attempts are 1 to 4"):
        run_task(kit.raises, attempt=attempt)


def test_what_no_decorator_made_a_task_type_is_refused() -> None:
    def undecorated() -> None: ...

    for wrong in (undecorated, TaskType("kit.elsewhere", TypeAdapter(dict))):
        with pytest.raises(TypeError, match="pass what the decorator `@task` returned"):
            run_task(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("handler", [kit.sleeps, kit.spins], ids=["async", "plain"])
def test_a_time_limit_stops_a_handler(handler: TaskType) -> None:
    outcome = run_task(handler, timeout="20ms")
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "timeout"
    assert isinstance(outcome.exception, TaskTimeoutError)
    assert run_task(handler, timeout=0.02, max_retries=1).status is Status.RETRYING


@pytest.mark.parametrize("handler", [kit.sleeps, kit.spins], ids=["async", "plain"])
def test_a_cancellation_stops_a_handler_at_a_report(handler: TaskType) -> None:
    outcome = run_task(handler, cancel_when=lambda report: report.percentage >= 10)
    assert outcome.status is Status.CANCELLED
    assert [report.percentage for report in outcome.progress] == [10]
    assert outcome.error is not None
    assert outcome.error.code == "cancelled"


@pytest.mark.parametrize("handler", [kit.sleeps, kit.spins], ids=["async", "plain"])
@pytest.mark.parametrize("cancel_after_s", [0, 0.02])
def test_a_cancellation_stops_a_handler_after_a_while(handler: TaskType, cancel_after_s: float) -> None:
    assert run_task(handler, cancel_after_s=cancel_after_s).status is Status.CANCELLED


def test_a_handler_that_completes_in_spite_of_a_cancellation_has_completed() -> None:
    outcome = run_task(kit.tidies, cancel_when=lambda report: True)
    assert (outcome.status, outcome.result) == (Status.COMPLETED, "stopped for cancel")


def test_a_cancellation_condition_that_raises_is_a_mistake_of_the_test() -> None:
    def broken(report: Progress) -> bool:
        raise AssertionError("not this")

    for handler in (kit.sleeps, kit.spins):
        with pytest.raises(AssertionError, match="not this"):
            run_task(handler, cancel_when=broken)


def test_a_handler_that_does_not_stop_is_left_alone() -> None:
    let_go = threading.Event()

    @task("kit.stubborn")
    async def stubborn(ctx: Context) -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    outcome = run_task(stubborn, cancel_after_s=0)
    assert (outcome.status, outcome.exception) == (Status.CANCELLED, None)
    let_go.set()


async def test_it_runs_inside_a_running_loop() -> None:
    assert run_task(kit.report, {"customer": 7}).status is Status.COMPLETED


async def test_the_async_one_runs_on_the_loop_of_the_test() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    @task("kit.loop")
    async def which(ctx: Context) -> str:
        loops.append(asyncio.get_running_loop())
        return "here"

    assert (await run_task_async(which)).result == "here"
    assert loops == [asyncio.get_running_loop()]


async def test_several_run_at_once() -> None:
    meeting = asyncio.Barrier(3)

    @task("kit.meets")
    async def meets(ctx: Context) -> None:
        await meeting.wait()

    outcomes: list[TaskOutcome] = await asyncio.gather(*(run_task_async(meets, timeout=20) for _ in range(3)))
    assert {outcome.status for outcome in outcomes} == {Status.COMPLETED}
    assert len({outcome.task_id for outcome in outcomes}) == 3


async def test_giving_up_waiting_stops_the_handler() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @task("kit.given_up")
    async def given_up(ctx: Context) -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    waiting = asyncio.create_task(run_task_async(given_up))
    await began.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await ended.wait()


def test_a_plain_function_is_in_a_thread_and_sees_the_context_variables_of_the_test() -> None:
    tenant = contextvars.ContextVar("tenant", default="none")

    @task("kit.tenant")
    async def reads(ctx: Context) -> str:
        return tenant.get()

    @task("kit.thread")
    def where(ctx: Context) -> bool:
        return threading.current_thread() is threading.main_thread()

    tenant.set("acme")
    assert run_task(reads).result == "acme"
    assert run_task(where).result is False


def test_the_environment_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_MAX_BODY_BYTES", "1")
    monkeypatch.setenv("CELERIAC_NO_SUCH_SETTING", "1")
    assert run_task(kit.report, {"customer": 7}).status is Status.COMPLETED


def test_a_failure_is_not_printed_since_the_outcome_has_it(capfd: pytest.CaptureFixture[str]) -> None:
    run_task(kit.raises)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_async", [True, False])
def test_the_outcome_has_what_the_handler_logged(is_async: bool) -> None:
    async def speaks(ctx: Context) -> None:
        ctx.log.debug("thinking")
        ctx.log.info("spoken", word="hello")

    def speaks_too(ctx: Context) -> None:
        ctx.log.debug("thinking")
        ctx.log.info("spoken", word="hello")

    kind = task(f"kit.speaks.{is_async}")(speaks if is_async else speaks_too)
    outcome = run_task(kind)
    (line,) = outcome.log
    assert (line.level, line.message, dict(line.data)) == ("info", "spoken", {"word": "hello"})
    verbose = Settings.model_validate({"task_log": {"level": "debug"}})
    assert [line.message for line in run_task(kind, settings=verbose).log] == ["thinking", "spoken"]
    assert run_task(kind, settings=Settings.model_validate({"task_log": {"lines": 0}})).log == ()


@pytest.mark.parametrize("wanted", [True, False])
def test_tracebacks_are_in_the_log_where_they_are_wanted(wanted: bool) -> None:
    @task(f"kit.traces.{wanted}")
    async def traces(ctx: Context) -> None:
        try:
            raise KeyError("inside")
        except KeyError:
            ctx.log.exception("caught", page=3)

    (line,) = run_task(traces, settings=Settings.model_validate({"task_log": {"tracebacks": wanted}})).log
    assert (line.level, line.message, line.data["page"]) == ("error", "caught", 3)
    assert ("traceback" in line.data) is wanted
