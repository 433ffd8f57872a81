"""`celeriac up` with a certificate: every door speaks TLS, and what knocks in clear text is not served."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from playwright.sync_api import expect

from celeriac.access.principal import Scope
from celeriac.settings import AccessSettings, Settings
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.certificates import Authority
from tests.kit.command_line import CELERIAC, REPOSITORY, clean_environment
from tests.kit.tokens import token_of
from tests.kit.up.browser import running_browser, watched_page
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

SECRET = "the secret of the tests of TLS, long enough"
SETTINGS = Settings(access=AccessSettings(jwt_secret=SECRET))  # type: ignore[arg-type]
CONFIG = """
imports: [tests.kit.up.pages_types]
access:
  jwt_secret: "{secret}"
  tls: {{cert_file: "{certificate}", key_file: "{key}"}}
"""
#: A program of a stranger: it finds the platform by its data folder, and trusts whom SSL_CERT_FILE says.
CLIENT = """
import celeriac
with celeriac.Client() as client:
    print(client.submit("mail.send", {"to": "ada@example.org"}).result(timeout=60)["to"])
"""
WORKER = """
async def handle(task):
    return {"answer": len(task.data["question"])}
"""

expect.set_options(timeout=30_000)


def admin_token() -> str:
    """Return a new token: one that is made with this module would grow old while other tests run."""
    return token_of(SETTINGS, user_id="ada", scopes=[Scope.ADMIN])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[RunningUp]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = authority.issue("server")
    config = folder / "celeriac.yaml"
    config.write_text(CONFIG.format(secret=SECRET, certificate=certificate, key=key))
    with RunningUp(folder / "data", "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY)) as running:
        asyncio.run(running.ready())
        yield running
        asyncio.run(running.stop())


@pytest.fixture
def environment(up: RunningUp, authority: Authority) -> dict[str, str]:
    """What a program on this machine needs to reach the platform."""
    return clean_environment(
        SSL_CERT_FILE=str(authority.file), CELERIAC_DATA_DIR=str(up.data_dir), CELERIAC_TOKEN=admin_token()
    )


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


async def test_http_is_served_with_the_certificate_only(up: RunningUp, authority: Authority) -> None:
    url = up.run_json["http"]
    assert url.startswith("https://127.0.0.1:")
    assert f"curl -sw '\\n' -X POST {url}/api/v1/tasks" in up.text
    headers = {"Authorization": f"Bearer {admin_token()}"}
    async with httpx.AsyncClient(timeout=60, base_url=url, verify=trusting(authority), headers=headers) as client:
        answer = await client.get("/api/v1/groups")
        assert answer.status_code == 200
        assert "strict-transport-security" in answer.headers
    async with httpx.AsyncClient(timeout=60) as stranger:
        with pytest.raises(httpx.TransportError, match="certificate verify failed"):
            await stranger.get(f"{url}/healthz")
        with pytest.raises(httpx.TransportError):
            await stranger.get(f"{url.replace('https', 'http')}/healthz")


async def test_grpc_is_served_with_the_certificate_only(up: RunningUp, authority: Authority) -> None:
    address = up.run_json["grpc"].removeprefix("grpcs://")
    metadata = (("authorization", f"Bearer {admin_token()}"),)
    request = task_pb2.GetTaskStatusRequest(task_id="nobody")
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    async with grpc.aio.secure_channel(address, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await task_pb2_grpc.TaskServiceStub(channel).GetTaskStatus(request, metadata=metadata, timeout=20)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND, "it was asked, and there is no such task"
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await task_pb2_grpc.TaskServiceStub(channel).GetTaskStatus(request, metadata=metadata, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_python_program_finds_it_and_trusts_the_authority_it_is_told_of(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ada@example.org"


async def test_a_remote_worker_answers_over_a_secure_websocket(
    up: RunningUp, authority: Authority, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "answering.py").write_text(WORKER)
    worker = subprocess.Popen(
        [*CELERIAC, "remote-worker", "answering:handle", "--group", "secure"], cwd=tmp_path, env=environment
    )
    try:
        url, headers = up.run_json["http"], {"Authorization": f"Bearer {admin_token()}"}
        async with httpx.AsyncClient(base_url=url, verify=trusting(authority), headers=headers, timeout=60) as client:

            async def served() -> bool:
                groups = (await client.get("/api/v1/groups")).json()["groups"]
                return any(one["name"] == "secure" and one["workers"] for one in groups)

            await eventually(served, because="the remote worker is connected", timeout_s=60)
            answer = await client.post("/api/openai", json={"group": "secure", "data": {"question": "how long?"}})
        assert answer.json()["result"] == {"answer": 9}
    finally:
        worker.terminate()
        worker.wait(20)


def test_the_pages_work_over_https(up: RunningUp) -> None:
    url = up.run_json["http"]
    with running_browser() as browser, watched_page(browser, url, ignore_https_errors=True) as page:
        page.goto("/dashboard")
        page.get_by_label("Token or API key").fill(admin_token())
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
        (cookie,) = page.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        page.goto("/test-worker")
        page.get_by_label("Group").fill("by-hand")
        page.get_by_label("Answer automatically").check()
        page.get_by_role("button", name="Connect").click()
        expect(page.locator(".title .status")).to_have_text("connected")
        page.get_by_role("button", name="Submit").click()
        expect(page.locator(".log summary", has_text="task_complete")).to_be_visible()
