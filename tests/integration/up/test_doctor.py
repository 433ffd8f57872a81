"""`celeriac doctor` on things that are broken in earnest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from celeriac.database.migrating import migrate
from celeriac.model import Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.code_versions import version, worker_starts
from tests.kit.command_line import celeriac
from tests.kit.servers import ValkeyServer, free_port


@pytest.fixture
def settings() -> Settings:
    """The workers of these tests are there for as long as a doctor looks, however slow the machine."""
    return Settings(lease=600)


@pytest.fixture
def examine(tmp_path: Path, valkey_url: str) -> Callable[..., Any]:
    async def run(*arguments: str, **environment: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        code, out, err = await celeriac(
            "doctor", "--json", *arguments, cwd=tmp_path, **{"REDIS_URL": valkey_url, **environment}
        )
        assert out, err
        document = json.loads(out)
        assert document["healthy"] == (code == 0)
        by_state: dict[str, list[dict[str, str]]] = {"ok": [], "warning": [], "failure": []}
        for finding in document["findings"]:
            by_state[finding["state"]].append(finding)
        return code, by_state

    return run


async def test_a_fresh_installation_lacks_its_tables_and_a_worker(examine: Any, tmp_path: Path) -> None:
    code, found = await examine()
    assert code == 1
    (history,) = found["failure"]
    assert (history["subject"], "celeriac migrate" in history["advice"]) == ("history", True)
    assert {"no worker is running; 0 tasks wait", "history has never been recorded"} <= {
        finding["detail"] for finding in found["warning"]
    }
    (tmp_path / ".celeriac").mkdir(exist_ok=True)
    migrate(f"sqlite:///{tmp_path / '.celeriac' / 'celeriac.db'}")
    code, found = await examine()
    assert (code, found["failure"]) == (0, [])
    assert {"store", "clock", "history", "files", "access", "machine"} <= {
        finding["subject"] for finding in found["ok"]
    }


async def test_tasks_that_nobody_serves_are_a_failure(examine: Any, store: TaskStore) -> None:
    await store.submit(Submission(task_id="t", type="demo", group="lonely"))
    _, found = await examine()
    assert "no worker is running; 1 tasks wait" in {finding["detail"] for finding in found["failure"]}
    await store.renew("w", [], {"kind": "celery", "groups": "other", "started_ms": "1"})
    _, found = await examine()
    (lonely,) = [finding for finding in found["failure"] if finding["subject"] == "work"]
    assert lonely["advice"] == "start `celeriac worker --groups lonely` (for tasks of type remote: a remote worker)"


async def test_tasks_of_a_type_that_no_worker_of_the_group_knows_are_a_failure(examine: Any, store: TaskStore) -> None:
    for name in ("one", "two"):
        await store.submit(Submission(task_id=name, type="celeriac.add", group="default"))
    await store.note_unknown("celeriac.add", "default")
    await worker_starts(store, "w", version(report=None))
    _, found = await examine()
    told = [finding["detail"] for state in found.values() for finding in state if "celeriac.add" in finding["detail"]]
    assert told == ["2 tasks of type 'celeriac.add' wait in 'default', and no worker of the group knows this type"]
    await worker_starts(store, "other", version(other=None), plain=("celeriac.add",))
    _, found = await examine()
    assert not [finding for finding in found["failure"] if finding["subject"] == "work"]


async def test_a_store_that_may_throw_tasks_away_is_a_failure(examine: Any, tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        async with redis.Redis.from_url(server.url()) as client:
            await client.config_set("maxmemory-policy", "allkeys-lru")
            await client.config_set("appendonly", "no")
            await client.config_set("hash-max-listpack-value", 64)
        code, found = await examine(REDIS_URL=server.url())
        assert code == 1
        assert any("allkeys-lru" in finding["detail"] for finding in found["failure"])
        assert any("append-only" in finding["detail"] for finding in found["warning"])
        assert any("above 64 bytes" in finding["detail"] for finding in found["warning"])
    finally:
        server.kill()


async def test_what_is_away_is_said_with_what_to_do(examine: Any, tmp_path: Path) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    code, found = await examine("--quick", REDIS_URL=away)
    assert code == 1
    assert {finding["subject"] for finding in found["failure"]} == {"store", "history"}
    assert all(finding["advice"] for finding in found["failure"])


async def test_an_executor_that_does_not_listen_and_a_full_address_are_said(examine: Any) -> None:
    address = f"127.0.0.1:{free_port()}"
    services = json.dumps({"services": {"gone": {"address": address}}})
    code, found = await examine(GRPC_SERVICES=services, CELERIAC_HOST="0.0.0.0", JWT_SECRET="short-secret")
    texts = [finding["detail"] for finding in found["warning"]]
    assert any(text.startswith(f"gone: nothing listens at {address}") for text in texts)
    assert "JWT_SECRET is shorter than 32 bytes" in texts
    assert code == 1  # the tables


async def test_people_read_one_line_per_finding(tmp_path: Path, valkey_url: str) -> None:
    code, out, _ = await celeriac("doctor", cwd=tmp_path, REDIS_URL=valkey_url)
    assert code == 1
    assert "FAIL  history" in out
    assert "-> " in out
    assert re.search(r"^failures: [1-9][0-9]*, warnings: [0-9]+$", out.rstrip().splitlines()[-1])
