"""TLS, mutual TLS and metadata of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac.errors import SkipRetry, TaskError
from tests.kit.certificates import Authority
from tests.kit.executors.process import ExecutorProcess, handler_of, make_context, play
from tests.kit.servers import free_port

ANSWER = play({"result": {"ok": 1}})


async def run(executor: ExecutorProcess, **service: Any) -> dict[str, Any]:
    """Run one task on `executor` as this service and return its result."""
    handler = handler_of(executor.settings(**service))
    try:
        return await handler(ANSWER, make_context())
    finally:
        await handler.close()


async def test_tls_trusts_the_given_authority_and_no_other(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    certificate, key = authority.issue("server")
    async with ExecutorProcess("--cert", certificate, "--key", key) as executor:
        assert await run(executor, tls={"ca_file": authority.file}) == {"ok": 1}
        for service in ({"tls": {"ca_file": stranger.file}}, {"tls": {}}, {}):
            with pytest.raises(TaskError) as failed:
                await run(executor, **service)
            assert failed.value.code == "service_unhealthy"


async def test_server_name_is_what_the_certificate_is_checked_against(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", host="executor.internal")
    async with ExecutorProcess("--cert", certificate, "--key", key) as executor:
        tls = {"ca_file": authority.file}
        assert await run(executor, tls={**tls, "server_name": "executor.internal"}) == {"ok": 1}
        with pytest.raises(TaskError, match="not healthy"):
            await run(executor, tls=tls)


async def test_mutual_tls_shows_the_client_s_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    client_certificate, client_key = authority.issue("client")
    async with ExecutorProcess("--cert", certificate, "--key", key, "--client-ca", authority.file) as executor:
        tls = {"ca_file": authority.file}
        mutual = {**tls, "cert_file": client_certificate, "key_file": client_key}
        assert await run(executor, tls=mutual) == {"ok": 1}
        with pytest.raises(TaskError, match="not healthy"):
            await run(executor, tls=tls)


async def test_a_missing_pem_file_is_named_and_tried_again_later(tmp_path: Path) -> None:
    executor = ExecutorProcess()
    executor.port = free_port()
    with pytest.raises(TaskError, match=r"nowhere\.pem") as failed:
        await run(executor, tls={"ca_file": tmp_path / "nowhere.pem"})
    assert (failed.value.code, failed.value.retryable) == ("invalid_settings", True)


async def test_metadata_travels_with_each_call(tmp_path: Path) -> None:
    async with ExecutorProcess("--token", "s3cret") as executor:
        metadata = {"Authorization": "Bearer s3cret", "x-test": "here"}
        assert await run(executor, metadata=metadata) == {"ok": 1}
        (request,) = (await executor.seen())["requests"]
        assert request["header"] == "here"
        with pytest.raises(TaskError, match="unauthenticated") as failed:
            await run(executor, metadata={"authorization": "Bearer wrong"})
        assert "wrong" not in str(failed.value)


async def test_metadata_that_cannot_be_sent_is_refused_without_its_value() -> None:
    executor = ExecutorProcess()
    executor.port = free_port()
    for metadata in ({"authorization": "Bearer s3cret\n"}, {"not a name": "s3cret"}):
        with pytest.raises(TaskError, match="cannot be sent") as failed:
            await run(executor, metadata=metadata)
        assert "s3cret" not in str(failed.value)
        assert not isinstance(failed.value, SkipRetry)


async def test_an_executor_is_dialled_directly_whatever_proxy_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with ExecutorProcess() as executor:
        assert await run(executor) == {"ok": 1}
