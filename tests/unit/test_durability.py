"""Which calls wait for the disk or for replicas before they are answered."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from celeriac.settings import Settings
from celeriac.store.server.durability import ACCEPTING, UNCONFIRMED, Durability

_TRANSITIONS = Path(str(files("celeriac.store"))) / "lua" / "transitions"
_ALL = sorted(file.stem for file in _TRANSITIONS.iterdir())
#: Functions of `lua/shared/` that accept, start or end a task, give it back, or run it again.
_MOVES = re.compile(r"\b(accept|start|settle|take_back|time_out|run_again|cancel_task)\(")
#: Only roles run these; what they have done and the replicas have not, they do again.
_ROLES = {"promote", "reap", "sweep", "mend_rules", "steer", "watch_external"}


def test_every_name_is_a_transition() -> None:
    assert set(_ALL) >= ACCEPTING | UNCONFIRMED


@pytest.mark.parametrize("name", _ALL)
def test_what_accepts_starts_or_ends_a_task_for_its_caller_waits_for_replicas(name: str) -> None:
    own = (_TRANSITIONS / f"{name}.lua").read_text("utf-8")
    moves = set(_MOVES.findall(re.sub(r"--.*", "", own)))
    covered = Durability(Settings(durability="replicated").store).covers(name)
    assert covered or not moves or name in _ROLES, f"{name} calls {sorted(moves)}"


def test_a_pipeline_waits_once_and_reports_do_not_wait() -> None:
    replicated = Durability(Settings(durability="replicated", durability_replicas=2, durability_timeout=0.5).store)
    assert [command[0] for command in replicated.waits_for(["submit", "claim", "complete", "progress"])] == [
        "PUBLISH", "WAIT", "EVAL",
    ]  # fmt: skip
    assert replicated.waits_for(["claim"])[-2] == ("WAIT", 2, 500)
    assert replicated.waits_for(["progress", "log", "renew"]) == []
    assert Durability(Settings().store).waits_for(_ALL) == []


def test_fsync_waits_for_what_accepts() -> None:
    fsync = Durability(Settings(durability="fsync").store)
    assert fsync.waits_for(["plan"])[-1][0] == "WAITAOF"
    assert fsync.waits_for(["claim", "complete"]) == []
