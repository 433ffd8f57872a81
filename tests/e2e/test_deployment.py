"""The services of deploy/compose.yaml as plain processes, read from that file; and the files against their schemas.

Two API replicas behind the proxy, workers by group, two beats, Flower, Prometheus, on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.kit.command_line import REPOSITORY, clean_environment
from tests.kit.databases import empty_database
from tests.kit.waiting import eventually, serves

DEPLOY = REPOSITORY / "deploy"
#: Debian's packages of the programs that compose.yaml runs beside our own.
PACKAGES = {"nginx": "nginx-light", "prometheus": "prometheus"}


def _module() -> Any:
    found = spec_from_file_location("procfile", DEPLOY / "procfile.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules["procfile"] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


class Deployment:
    """The running processes of the Procfile, by name, with what each wrote in FOLDER/NAME.log."""

    def __init__(self, topology: Any) -> None:
        self.topology = topology
        self.http = f"http://127.0.0.1:{topology.port('proxy:8080')}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        lines = (topology.folder / "Procfile").read_text().splitlines()
        self.commands = {name: shlex.split(command) for name, _, command in (line.partition(": ") for line in lines)}

    def start(self, name: str) -> None:
        """Start one process."""
        with (self.topology.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                cwd=self.topology.folder,
                start_new_session=True,
            )

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and what it forked."""
        process = self.processes.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, number)
        process.wait(30)

    def stop(self) -> None:
        """End everything, the store last."""
        for name in [*(name for name in self.processes if name != "valkey"), "valkey"]:
            if name in self.processes:
                self.kill(name)

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self.topology.folder / f"{name}.log").read_text(errors="replace")

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run `celeriac ARGUMENTS` with the settings of the deployment's processes; returns its standard output."""
        words = [str(self.topology.folder / "celeriac"), *arguments]
        done = subprocess.run(
            words, capture_output=True, text=True, env=clean_environment(), cwd=self.topology.folder, timeout=60
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_database("postgresql", tmp_path_factory.mktemp("database")) as url:
        yield url


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Deployment]:
    missing = [name for name in PACKAGES if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        message = (
            f"NOT TESTED: the deployment needs {' and '.join(PACKAGES[name] for name in missing)} (apt-get install)"
        )
        assert not os.environ.get("CI"), message
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    running = Deployment(_module().write(tmp_path_factory.mktemp("deployment"), database))
    try:
        running.run("migrate")
        running.start("valkey")
        asyncio.run(_answers(running))
        metrics_key = json.loads(running.run("token", "--user", "prometheus", "--scope", "admin", "--json"))["token"]
        running.topology.secret("metrics_key").write_text(metrics_key)
        for name in running.commands:
            if name != "valkey":
                running.start(name)
        yield running
    finally:
        running.stop()


async def _answers(running: Deployment) -> None:
    port = running.topology.port("valkey")

    async def open_port() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(open_port, because="the store starts")


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    """An operator behind the proxy, once the platform is ready."""
    token = deployment.topology.secret("metrics_key").read_text()
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=deployment.http, headers=headers, timeout=20) as connected:

        async def ready() -> bool:
            try:
                answers = [await connected.get(path) for path in ("/readyz", "/api/v1/workers")]
            except httpx.HTTPError:
                return False
            if any(answer.status_code != 200 for answer in answers):
                return False
            return sum(worker["kind"] == "celery" for worker in answers[1].json()["workers"]) >= 3

        await eventually(ready, because="two replicas answer and workers are there", timeout_s=60)
        yield connected


async def submit(client: httpx.AsyncClient, number: int) -> str:
    """Submit a task whose result can be told: the checksum of an upload."""
    upload = await client.put(f"/api/v1/files/{number}.txt", content=f"text {number}".encode())
    assert upload.status_code == 201, upload.text
    payload = {"file_id": upload.json()["file_id"], "processor": "checksum", "options": {"algorithms": ["md5"]}}
    answer = await client.post("/api/v1/tasks", json={"type": "file_process", "payload": payload, "queue": "media"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def ended(client: httpx.AsyncClient, task_id: str, *, timeout_s: float = 60) -> dict[str, Any]:
    """Return the task's record once it has ended."""
    record: dict[str, Any] = {}

    async def final() -> bool:
        answer = await client.get(f"/api/v1/tasks/{task_id}")
        record.update(answer.json())
        return record.get("status") in ("completed", "failed", "cancelled")

    await eventually(final, because=f"task {task_id} ends", timeout_s=timeout_s)
    return record


async def test_a_file_goes_through_proxy_store_and_worker(client: httpx.AsyncClient) -> None:
    record = await ended(client, await submit(client, 1))
    assert record["status"] == "completed", record
    assert hashlib.md5(b"text 1", usedforsecurity=False).hexdigest() in json.dumps(record["result"]["facts"])


async def test_events_stream_through_the_proxy_as_they_happen(client: httpx.AsyncClient) -> None:
    task_id = await submit(client, 2)
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream") as stream:
        lines = [line async for line in stream.aiter_lines()]
    assert "event: done" in lines


async def test_the_audit_sees_callers_and_not_the_proxy(deployment: Deployment, client: httpx.AsyncClient) -> None:
    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(
        timeout=60, base_url=deployment.http, headers=client.headers, transport=elsewhere
    ) as operator:
        lied = {"X-Forwarded-For": "192.0.2.1"}
        for verb in ("pause", "resume"):
            assert (await operator.post(f"/api/v1/groups/default/{verb}", headers=lied)).status_code == 200
    entries = (await client.get("/api/v1/audit", params={"limit": 2})).json()["items"]
    assert {entry["address"] for entry in entries} == {"127.0.0.2"}


async def test_grpc_passes_the_proxy(deployment: Deployment, client: httpx.AsyncClient) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{deployment.topology.port('proxy:50051')}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_replica_a_worker_and_a_beat_die_and_nothing_is_lost(
    deployment: Deployment, client: httpx.AsyncClient
) -> None:
    before = [await submit(client, number) for number in range(10, 20)]
    for name in ("api-1", "worker-1", "beat-1"):
        deployment.kill(name)
    try:
        after = [await submit(client, number) for number in range(20, 30)]
        for task_id in [*before, *after]:
            assert (await ended(client, task_id))["status"] == "completed"
    finally:
        for name in ("api-1", "worker-1", "beat-1"):
            deployment.start(name)


async def test_prometheus_reads_all_and_the_dashboards_queries_have_answers(
    deployment: Deployment, client: httpx.AsyncClient
) -> None:
    await ended(client, await submit(client, 3))
    deployment.run("limits", "set", "wide", "--group", "media", "--max-running", "1000")
    async with httpx.AsyncClient(
        timeout=60, base_url=f"http://127.0.0.1:{deployment.topology.port('prometheus')}"
    ) as prometheus:

        async def up() -> bool:
            try:
                answer = await prometheus.get("/api/v1/query", params={"query": "up"})
            except httpx.HTTPError:
                return False
            found = [sample["value"][1] for sample in answer.json()["data"]["result"]]
            return found == ["1"] * 3

        await eventually(up, because="Prometheus reaches the platform and both replicas", timeout_s=60)

        async def query(text: str) -> list[Any]:
            text = text.replace("$__rate_interval", "1m").replace("$group", ".*")
            answer = (await prometheus.get("/api/v1/query", params={"query": text})).json()
            assert answer["status"] == "success", (text, answer)
            return list(answer["data"]["result"])

        async def counted() -> bool:
            ended_and_limited = ('celeriac_tasks_finished_total{group="media"}', 'celeriac_limit_running{limit="wide"}')
            return all([await query(text) for text in ended_and_limited])

        await eventually(counted, because="a scrape after the task's end")
        dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "celeriac.json").read_text())
        # These count what need not have happened.
        may_be_empty = re.compile(r'status="failed"|retries|leases_expired|histogram_quantile|rate\(|increase\(')
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                assert await query(target["expr"]) or may_be_empty.search(target["expr"]), target["expr"]
        alerts = (await prometheus.get("/api/v1/rules")).json()["data"]["groups"][0]["rules"]
        assert alerts
        assert not [rule["name"] for rule in alerts if rule["health"] == "err"]


async def test_flower_runs_beside_it(deployment: Deployment, client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(
        timeout=60, base_url=f"http://127.0.0.1:{deployment.topology.port('flower')}"
    ) as flower:
        await eventually(lambda: serves(flower, "/healthcheck"), because="Flower starts", timeout_s=30)
        # It shows the payloads of every user, so it asks for a password of its own.
        password = deployment.topology.secret("flower_password").read_text()
        for path in ("/workers", "/tasks", "/tasks/datatable", "/api/tasks"):
            assert (await flower.get(path)).status_code == 401, path
            assert (await flower.get(path, auth=("celeriac", "wrong"))).status_code == 401, path
        assert (await flower.get("/workers", auth=("celeriac", password))).status_code == 200


async def test_the_doctor_finds_nothing_to_mend(deployment: Deployment, client: httpx.AsyncClient) -> None:
    found = json.loads(deployment.run("doctor", "--json", check=False))
    assert found["healthy"], found


def test_metrics_are_not_for_those_outside(deployment: Deployment) -> None:
    assert httpx.get(f"{deployment.http}/metrics", timeout=60).status_code == 404


def test_the_compose_files_and_the_image_are_valid() -> None:
    subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml",
         "compose.dev.yaml"], cwd=DEPLOY, check=True, timeout=60,
    )  # fmt: skip
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, "Dockerfile"], cwd=DEPLOY, check=True, timeout=60)
    for script in DEPLOY.glob("*.sh"):
        subprocess.run(["sh", "-n", script], check=True, timeout=10)


def test_every_file_that_compose_mounts_is_there() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for name in set(re.findall(r"- \./([\w./-]+):", text)):
        assert (DEPLOY / name).exists(), name
    made = (DEPLOY / "secrets.sh").read_text()
    for name in re.findall(r"file: \./secrets/(\w+)", text):
        assert f"keep {name}" in made, name
