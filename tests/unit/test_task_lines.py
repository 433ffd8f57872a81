"""What a process says on its terminal of the tasks that end."""

from __future__ import annotations

import json
import threading
from datetime import datetime

import pytest

from celeriac.model import Failure, Status
from celeriac.terminal.task_end import TaskEnd, error_text, json_of, line_of
from celeriac.terminal.task_lines import TaskLines
from tests.kit.waiting import eventually

AT = datetime(2026, 3, 1, 9, 5, 7).astimezone()
ID = "1ce9a18f-6be8-4eb8-a457-408492f4b84f"


def end(status: Status, took_s: float | None = 0.246, attempt: int = 1, error: str = "", again_s: float = 0) -> TaskEnd:
    return TaskEnd("mails", "send-mail", ID, status, took_s, attempt, 4, error, again_s)


REFUSED = "ConnectionError: refused"
LINES = {
    "✓ 246 ms": end(Status.COMPLETED),
    "✗ attempt 1 of 4: ConnectionError: refused — again in 0.5 s": end(Status.RETRYING, error=REFUSED, again_s=0.5),
    "✗ attempt 2 of 4: worker_lost: gone — again at once": end(Status.PENDING, attempt=2, error="worker_lost: gone"),
    "✗ attempt 4 of 4: ConnectionError: refused — failed": end(Status.FAILED, attempt=4, error=REFUSED),
    "✗ expired: it was not started — failed": end(Status.FAILED, None, 0, "expired: it was not started"),
    "✗ given back after 246 ms — the attempt does not count": end(Status.PENDING),
    "✗ cancelled after 246 ms": end(Status.CANCELLED),
    "✗ cancelled after 246 ms: revoked in Celery": end(Status.CANCELLED, error="revoked in Celery"),
    "✗ cancelled before it ran": end(Status.CANCELLED, None, 0, "cancelled before it ran"),
    "✗ cancelled: revoked in Celery": end(Status.CANCELLED, None, 0, "revoked in Celery"),
}


@pytest.mark.parametrize("said", LINES)
def test_each_way_to_end_has_its_words(said: str) -> None:
    assert line_of(LINES[said], AT) == f"09:05:07 mails send-mail 1ce9a18f {said}"


@pytest.mark.parametrize("said", LINES)
def test_machines_read_the_same_facts(said: str) -> None:
    found, of = json.loads(json_of(LINES[said], AT)), LINES[said]
    assert list(found)[:6] == ["time", "group", "type", "task_id", "status", "took_ms"]
    assert (found["group"], found["type"], found["task_id"]) == ("mails", "send-mail", ID)
    assert (found["status"], found["took_ms"]) == (of.status.wire, of.took_ms)
    assert found.get("error", "") == of.error


def test_texts_from_elsewhere_neither_steer_the_terminal_nor_fill_it() -> None:
    nasty = Failure("exception", "Bad: \x1b[2J\u202ehi\r\npassword=hunter2 " + "x" * 100_000, True)
    line = line_of(end(Status.FAILED, error=error_text(nasty)), AT)
    assert line.isprintable()
    assert "hunter2" not in line
    assert len(line) < 300
    names = TaskEnd("g\x1b" + "x" * 500, "t y\np", "an id\x07 of mine", Status.COMPLETED, 0.1)
    assert line_of(names, AT).isprintable()


def test_an_id_of_the_caller_s_own_stays_whole() -> None:
    assert " invoice-2026-0001 ✓" in line_of(TaskEnd("g", "t", "invoice-2026-0001", Status.COMPLETED, 0.1), AT)


def test_colours_are_only_there_if_asked_for() -> None:
    assert "\x1b[32m✓\x1b[0m 246 ms" in line_of(end(Status.COMPLETED), AT, colours=True)
    assert "\x1b[31m✗\x1b[0m" in line_of(end(Status.FAILED, error="E"), AT, colours=True)


async def test_what_is_above_the_limit_of_a_second_is_summed_up_and_nothing_is_lost() -> None:
    written: list[str] = []
    lines = TaskLines(written.append, most=50, as_json=True)
    for _ in range(1_290):
        if lines.has_room():
            lines.add(end(Status.COMPLETED))
    lines.close()
    documents = [json.loads(line) for line in written]
    ends = [document for document in documents if "task_id" in document]
    assert len(ends) + sum(document.get("more", 0) for document in documents) == 1_290
    assert len(ends) % 50 == 0, "the limit holds in each second"


async def test_the_sum_comes_by_itself_when_the_second_is_over() -> None:
    written: list[str] = []
    lines = TaskLines(written.append, most=1, as_json=False)
    ends = 0
    while ends < 1_241:
        if lines.has_room():
            lines.add(end(Status.COMPLETED))
        ends += 1
    await eventually(lambda: any("more in this second" in line for line in written), because="nothing else ends")
    sums = [int(line.split("+")[1].split(" ")[0].replace(",", "")) for line in written if "+" in line]
    assert sum(sums) + len([line for line in written if "✓" in line]) == 1_241


async def test_a_terminal_that_stands_still_holds_nobody_up_and_lines_that_wait_are_bounded() -> None:
    written: list[str] = []
    stands_still = threading.Event()

    def write(line: str) -> None:
        stands_still.wait()
        written.append(line)

    lines = TaskLines(write, most=100_000, as_json=False)
    for _ in range(50_000):
        if lines.has_room():
            lines.add(end(Status.COMPLETED))
    stands_still.set()
    await eventually(lambda: any("more in this second" in line for line in written), because="the rest is summed up")
    assert len(written) < 10_000


def test_without_lines_nothing_is_even_counted() -> None:
    written: list[str] = []
    lines = TaskLines(written.append, most=0, as_json=False)
    assert not any(lines.has_room() for _ in range(100))
    lines.close()
    assert written == []
