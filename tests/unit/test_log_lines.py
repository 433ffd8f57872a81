"""The lines of a task's log on their way: a bounded number, and what was left out is counted."""

from __future__ import annotations

import asyncio
import threading

from celeriac.execution.log_lines import LogLines
from celeriac.model import LogLine


async def test_lines_that_go_in_any_case_do_not_hide_how_many_were_left_out() -> None:
    sent: list[tuple[str, asyncio.Future[str]]] = []

    def send(_seq: int, line: LogLine) -> asyncio.Future[str]:
        sent.append((line.message, asyncio.get_running_loop().create_future()))
        return sent[-1][1]

    lines = LogLines(send=send, loop=asyncio.get_running_loop(), loop_thread=threading.get_ident(), most=2)
    for number in range(10):
        lines.add(LogLine("info", f"line {number}", {}, 0))
    for _ in range(3):
        lines.add(LogLine("warning", "in any case", {}, 0), always=True)
    for _, arrived in sent[:]:
        arrived.set_result("0-1")
        await asyncio.sleep(0)
    left_out = "8 lines were left out: they came faster than the store took them"
    assert [message for message, _ in sent] == ["line 0", "line 1", *["in any case"] * 3, left_out]
