"""The supervisor with real children: small shell and Python programs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from celeriac.up.supervisor import ChildSpec, Supervisor, describe_exit, restart_delay_s
from tests.kit.waiting import eventually


@dataclass
class Seen:
    """What a supervisor said and started."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    pids: list[dict[str, int]] = field(default_factory=list)

    def said(self, text: str) -> bool:
        return any(role == "up" and text in line for role, line in self.lines)

    def of(self, role: str) -> list[str]:
        return [line for name, line in self.lines if name == role]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def supervisor(seen: Seen) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(on_line=lambda role, line: seen.lines.append((role, line)), on_pids=seen.pids.append)
    await supervisor.start()
    yield supervisor
    supervisor.kill()
    await supervisor.stop(timeout_s=5)


def _python(name: str, program: str) -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-u", "-c", program), dict(os.environ))


def test_pauses_grow_to_their_limit() -> None:
    assert [restart_delay_s(deaths) for deaths in (1, 2, 3, 5, 6, 1000)] == [0.2, 0.4, 0.8, 3.2, 5.0, 5.0]


def test_ends_are_described_in_words() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-9) == "was killed by SIGKILL"


async def test_output_comes_line_by_line_with_both_streams(supervisor: Supervisor, seen: Seen) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); print('end', end='', flush=True); input()"
    supervisor.run(_python("talker", program))
    # Standard input is empty, so the program ends by itself.
    await eventually(lambda: seen.said("talker exited with code 1"), because="it reads an empty input")
    assert seen.of("talker")[:2] == ["out", "err"]
    assert seen.of("talker")[2].startswith("end")


async def test_a_child_that_is_killed_is_started_again_with_a_new_pid(supervisor: Supervisor, seen: Seen) -> None:
    supervisor.run(_python("sleeper", "import signal; print('up'); signal.pause()"))
    await eventually(lambda: seen.of("sleeper") == ["up"], because="it starts")
    first = supervisor.pids["sleeper"]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: seen.of("sleeper") == ["up", "up"], because="it is started again")
    assert supervisor.pids["sleeper"] != first
    assert seen.said("sleeper was killed by SIGKILL: starting it again in 0.2 s")
    assert [pids["sleeper"] for pids in seen.pids] == [first, supervisor.pids["sleeper"]]


async def test_a_program_that_does_not_exist_is_said_and_tried_again(supervisor: Supervisor, seen: Seen) -> None:
    supervisor.run(ChildSpec("ghost", ("/no/such/program",), {}))
    await eventually(
        lambda: seen.said("ghost cannot be started (No such file or directory: /no/such/program)"), because="it is said"
    )
    await eventually(lambda: seen.said("starting it again in 0.4 s"), because="the pause grows")


async def test_stop_asks_first_and_kills_what_does_not_listen(supervisor: Supervisor, seen: Seen) -> None:
    polite = (
        "import signal, sys; signal.signal(15, lambda *_: (print('bye'), sys.exit(0))); print('up'); signal.pause()"
    )
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('up')\nwhile True: signal.pause()"
    supervisor.run(_python("polite", polite))
    supervisor.run(_python("deaf", deaf))
    await eventually(lambda: seen.of("polite") and seen.of("deaf"), because="both start")
    pids = list(supervisor.pids.values())
    # Long enough for what listens, also on a busy machine.
    await supervisor.stop(timeout_s=5)
    assert seen.of("polite") == ["up", "bye"]
    assert seen.said("deaf did not stop within 5 s: killing it")
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert supervisor.pids == {}


async def test_what_a_child_forked_goes_with_it(supervisor: Supervisor, seen: Seen) -> None:
    program = "import subprocess, signal; p = subprocess.Popen(['sleep', '600']); print(p.pid); signal.pause()"
    supervisor.run(_python("parent", program))
    await eventually(lambda: seen.of("parent"), because="it starts")
    grandchild = int(seen.of("parent")[0])
    os.kill(supervisor.pids["parent"], signal.SIGKILL)
    await eventually(lambda: not _runs(grandchild), because="it would run on without anybody knowing")


async def test_children_lead_sessions_of_their_own(supervisor: Supervisor, seen: Seen) -> None:
    supervisor.run(_python("loner", "import os, signal; print(os.getsid(0), os.getpgid(0)); signal.pause()"))
    await eventually(lambda: seen.of("loner"), because="it starts")
    assert seen.of("loner")[0].split() == [str(supervisor.pids["loner"])] * 2


async def test_a_child_that_writes_without_end_stops_nobody(supervisor: Supervisor, seen: Seen) -> None:
    supervisor.run(_python("noisy", "print('x' * 50_000_000); import signal; signal.pause()"))
    supervisor.run(_python("quiet", "import signal; print('up'); signal.pause()"))
    await eventually(lambda: seen.of("noisy") and seen.of("quiet"), because="both are heard")
    assert len(seen.of("noisy")[0]) < 10_000


_UP = """
import asyncio, os, sys
from celeriac.up.supervisor import ChildSpec, Supervisor
async def main():
    supervisor = Supervisor(on_line=lambda role, line: print(role, line, flush=True), on_pids=lambda pids: None)
    await supervisor.start()
    supervisor.run(ChildSpec("child", (sys.executable, "-u", "-c", sys.argv[1]), dict(os.environ)))
    await asyncio.Event().wait()
{before}
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("before", "child"),
    [
        pytest.param(
            "",
            "import os, signal; print(os.getpid()); signal.pause()",
            id="by the kernel",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
        ),
        pytest.param(
            "import celeriac.up.supervisor as s, celeriac.up.parent_tie as t; s.BY_KERNEL = t.BY_KERNEL = False",
            "import os, signal; from celeriac.up.parent_tie import watch_stdin; watch_stdin();"
            " print(os.getpid()); signal.pause()",
            id="by standard input",
        ),
    ],
)
async def test_a_child_does_not_outlive_its_killed_parent(before: str, child: str, tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(_UP.format(before=before))
    parent = psutil.Popen([sys.executable, str(program), child], stdout=-1, text=True)
    pid = int(parent.stdout.readline().split()[1])
    assert _runs(pid)
    parent.kill()
    parent.wait()
    await eventually(lambda: not _runs(pid), because="its parent is dead", timeout_s=5)
    parent.stdout.close()


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
