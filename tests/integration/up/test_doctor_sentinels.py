"""`celeriac doctor` on a store with replicas and Sentinels, when all is there and when something is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.command_line import celeriac
from tests.kit.sentinels import Brand, Sentinels

pytestmark = pytest.mark.timeout(240)


async def examined(url: str, folder: Path) -> list[tuple[str, str, str]]:
    """Return what the doctor says about store, replication and Sentinels: state, text, advice."""
    _, out, err = await celeriac("doctor", "--json", cwd=folder, REDIS_URL=url)
    assert out, err
    assert "knock" not in out + err
    assert "sesame" not in out + err
    return [
        (found["state"], found["detail"], found["advice"])
        for found in json.loads(out)["findings"]
        if found["subject"] in ("store", "replication", "sentinels")
    ]


def said(findings: list[tuple[str, str, str]], state: str, part: str) -> str:
    """Return the advice of the only finding of this state whose text has this part."""
    (advice,) = [advice for found, text, advice in findings if found == state and part in text]
    return advice


@pytest.mark.parametrize(("brand", "tls"), [("valkey", False), ("redis", True)], ids=["valkey", "redis with TLS"])
async def test_the_doctor_looks_at_quorum_replicas_and_addresses(tmp_path: Path, brand: Brand, tls: bool) -> None:
    with Sentinels(
        tmp_path / "store", brand=brand, tls=tls, password="knock", sentinel_password="sesame", down_after_ms=60_000
    ) as rig:
        url = rig.url()
        found = await examined(url, tmp_path)
        said(found, "ok", "replicas: 2; the last one is ")
        said(found, "ok", f"3 watch {rig.primary().address}")
        said(found, "ok", "every address that they give can be reached from here (6)")
        assert "min-replicas-to-write 1" in said(found, "warning", "min-replicas-to-write is 0")
        assert not [one for one in found if one[0] == "failure"]

        primary, (late, _) = rig.primary(), rig.replicas()
        primary.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        late.stall()
        found = await examined(url, tmp_path)
        said(found, "ok", "min-replicas-to-write is 1")
        assert "replica-announce-ip" in said(
            found, "failure", f"the replica {late.address} cannot be reached from here"
        )
        late.open()

        primary.ask("CONFIG", "SET", "min-replicas-to-write", "3")
        said(await examined(url, tmp_path), "failure", "min-replicas-to-write is 3 and 2 follow: tasks are refused")
        primary.ask("CONFIG", "SET", "min-replicas-to-write", "0")

        for sentinel in rig.sentinels:
            sentinel.ask("SENTINEL", "SET", "celeriac", "quorum", "4")
        found = await examined(url, tmp_path)
        assert all("start the Sentinels" in advice for state, text, advice in found if "no failover" in text)
        assert sum("says that no failover can happen: NOQUORUM" in text for _, text, _ in found) == 3

        rig.sentinels[0].kill()
        gone = rig.sentinels[0].address
        found = await examined(url, tmp_path)
        assert said(found, "warning", f"{gone} cannot be asked") == "start it, or correct REDIS_URL"

        wrong = url.replace("sesame", "other")
        assert "sentinel_password" in " ".join(text for _, text, _ in await examined(wrong, tmp_path))
        unknown = url.replace("/celeriac/", "/unheard-of/")
        assert "watches no service 'unheard-of'" in " ".join(text for _, text, _ in await examined(unknown, tmp_path))


async def test_a_replica_is_not_the_store(tmp_path: Path) -> None:
    with Sentinels(tmp_path / "store", down_after_ms=60_000) as rig:
        found = await examined(f"redis://{rig.replicas()[0].address}/0", tmp_path)
        assert [(state, advice) for state, text, advice in found if "it is a replica" in text] == [
            ("failure", "set REDIS_URL to the primary: a replica accepts no tasks"),
            ("failure", "mend the store first"),
        ]
