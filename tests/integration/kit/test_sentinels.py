"""The rig of servers and Sentinels: each fault makes them choose another primary, and afterwards all follow it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.sentinels import Brand, Sentinels


@pytest.mark.parametrize(("brand", "tls"), [("valkey", False), ("redis", True)])
def test_each_fault_moves_the_primary_and_its_end_makes_the_rig_whole(tmp_path: Path, brand: Brand, tls: bool) -> None:
    with Sentinels(tmp_path / "store", brand=brand, tls=tls, password="open", sentinel_password="sesame") as sentinels:
        for fault, end in [("kill", "start"), ("freeze", "thaw"), ("stall", "open"), ("drop", "open")]:
            old = sentinels.primary()
            old.ask("SET", "last", fault)
            old.ask("WAIT", 1, 0)
            getattr(old, fault)()
            new = sentinels.wait_for_switch(old)
            assert new.ask("GET", "last") == fault
            getattr(old, end)()
            sentinels.wait_until_whole()
            assert old.info()["role"] == "slave"
    assert not any(process.runs for process in [*sentinels.servers, *sentinels.sentinels])
