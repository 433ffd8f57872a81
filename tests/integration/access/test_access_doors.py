"""Credentials at the other front doors: gRPC, pages, streams; API keys and limits; TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from celeriac.access.api_key import make_key
from celeriac.access.principal import Scope
from celeriac.settings import AccessSettings, ServerTlsSettings, Settings
from celeriac.store.api_keys import ApiKeys
from celeriac.store.task_store import TaskStore
from celeriac_api.rpc.access import address_of
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.api.access import SECRET, client_of, header, settings_of
from tests.kit.api.file_services import file_settings, rpc_serving
from tests.kit.api.http_serving import serving
from tests.kit.api.notification_client import listening
from tests.kit.certificates import Authority
from tests.kit.servers import ValkeyServer
from tests.kit.tokens import token_of
from tests.kit.waiting import PATIENCE_S, eventually

PLAIN = (Scope.READ, Scope.SUBMIT)


def metadata(settings: Settings, user: str, *scopes: Scope) -> tuple[tuple[str, str], ...]:
    return (
        (
            "authorization",
            f"Bearer {token_of(settings, user_id=user, scopes=scopes)}",
        ),
    )


async def test_grpc_calls_need_a_credential_and_show_own_tasks_only(store: TaskStore, tmp_path: Path) -> None:
    settings = file_settings(tmp_path, access={"jwt_secret": SECRET})
    file = tmp_path / "temp" / "clip.mp4"
    file.write_bytes(b"film")
    async with rpc_serving(store, settings) as (_, channel, _intake):
        stub = task_pb2_grpc.TaskServiceStub(channel)
        request = task_pb2.CreateTaskRequest(temp_file_path=str(file))
        for credential, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer nonsense"),), grpc.StatusCode.UNAUTHENTICATED),
            (metadata(settings, "7", Scope.READ), grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.CreateTask(request, metadata=credential)
            assert refused.value.code() is code
        created = await stub.CreateTask(request, metadata=metadata(settings, "7", *PLAIN))
        assert (await store.get(created.task_id)).user_id == "7"
        wanted = task_pb2.GetTaskStatusRequest(task_id=created.task_id)
        assert (await stub.GetTaskStatus(wanted, metadata=metadata(settings, "7", *PLAIN))).status == task_pb2.PENDING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetTaskStatus(wanted, metadata=metadata(settings, "8", *PLAIN))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        key, text = make_key("ops", user_id=None, scopes=[Scope.ADMIN])
        await ApiKeys(store).add(key)
        assert (await stub.GetTaskStatus(wanted, metadata=(("x-api-key", text),))).status == task_pb2.PENDING
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        # Without a request: one that is on its way when the refusal comes would end as INTERNAL in the client.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo().read()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_paths_of_the_server_are_for_admins_unless_the_operator_names_roots(
    store: TaskStore, tmp_path: Path
) -> None:
    settings = file_settings(tmp_path, access={"jwt_secret": SECRET}, files={"allowed_roots": None})
    async with rpc_serving(store, settings) as (_, channel, _intake):
        request = task_pb2.CreateTaskRequest(temp_file_path="/tmp/somebodys.mp4")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await task_pb2_grpc.TaskServiceStub(channel).CreateTask(request, metadata=metadata(settings, "7", *PLAIN))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "only an admin" in str(refused.value.details())


async def test_http_and_grpc_speak_tls(store: TaskStore, valkey_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    tls = ServerTlsSettings(cert_file=certificate, key_file=key)
    settings = settings_of(valkey_url, tmp_path, tls=tls)
    async with serving(settings) as url:
        secure = url.replace("http://", "https://")
        async with httpx.AsyncClient(
            base_url=secure, verify=ssl.create_default_context(cafile=authority.file)
        ) as client:
            answer = await client.get("/healthz")
            assert answer.status_code == 200
            assert "strict-transport-security" in answer.headers
    async with rpc_serving(store, file_settings(tmp_path, access={"tls": tls})) as (address, _, _intake):
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
        async with grpc.aio.secure_channel(address, credentials) as channel:
            state = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert state.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_revoked_key_is_refused_within_seconds(store: TaskStore, valkey_url: str, tmp_path: Path) -> None:
    key, text = make_key("ci", user_id="7", scopes=PLAIN)
    keys = ApiKeys(store)
    await keys.add(key)
    assert [known.name for known in await keys.all()] == ["ci"]
    held = await store.redis.hgetall("celeriac:api-keys")
    assert text.rpartition("_")[2] not in str(held), "only its hash is kept"
    async with client_of(settings_of(valkey_url, tmp_path, key_cache=0.2)) as client:
        for headers in ({"X-API-Key": text}, {"Authorization": f"Bearer {text}"}):
            assert (await client.get("/api/v1/groups", headers=headers)).status_code == 200
        assert await keys.revoke(key.key_id)

        async def refused() -> bool:
            return (await client.get("/api/v1/groups", headers={"X-API-Key": text})).status_code == 401

        await eventually(refused, because="a revocation is seen", timeout_s=5)


async def test_a_browser_signs_in_and_keeps_an_http_only_cookie(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path)
    async with client_of(settings) as client:
        led = await client.get("/dashboard")
        assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=/dashboard")
        form = await client.get(led.headers["location"])
        assert "script" not in form.headers["content-security-policy"].replace("default-src 'none'", "")
        token = token_of(settings, user_id="7", scopes=PLAIN)
        wrong = await client.post("/sign-in", data={"credential": "nonsense", "next": '"><script>'})
        assert wrong.status_code == 401
        assert "<script>" not in wrong.text
        for target, reached in (("/dashboard", "/dashboard"), ("//evil.example", "/dashboard"), ("/docs", "/docs")):
            answer = await client.post("/sign-in", data={"credential": token, "next": target})
            assert (answer.status_code, answer.headers["location"]) == (303, reached)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await client.get("/dashboard")).status_code == 200, "the cookie lets in"
        foreign = await client.post("/sign-in", data={"credential": token}, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403, "nobody else signs a browser in"
        await client.post("/sign-out")
        assert (await client.get("/dashboard")).status_code == 303


async def test_a_stream_takes_its_token_from_the_query_and_ends_with_it(
    valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    settings = settings_of(valkey_url, tmp_path)
    async with client_of(settings) as client:
        document = {"type": "http_test.echo", "payload": {}}
        mine = header(settings, "7", *PLAIN)
        task_id = (await client.post("/api/v1/tasks", json=document, headers=mine)).json()["task_id"]
        brief = token_of(settings, user_id="7", scopes=PLAIN, ttl_s=10)
        path = f"/api/v1/tasks/{task_id}"
        assert (await client.get(path, params={"token": brief})).status_code == 401, "nowhere but on streams"
        async with client.stream("GET", f"{path}/progress/stream", params={"token": brief}) as stream:
            assert stream.status_code == 200
            lines = [line async for line in stream.aiter_lines()]
        assert lines[0] == "retry: 1000", "it began, and ended with the token"
    assert brief not in "".join(r.getMessage() for r in caplog.records if r.name.startswith(("celeriac", "uvicorn")))


async def test_who_asks_too_much_is_told_when_to_come_back(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path, rate_limit=2, failure_limit=5, max_streams_per_principal=1)
    async with client_of(settings) as client:
        mine, theirs = header(settings, "7", *PLAIN), header(settings, "8", *PLAIN)
        answers = [await client.get("/api/v1/task-types", headers=mine) for _ in range(8)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert int(limited[0].headers["retry-after"]) >= 1
        assert limited[0].json()["code"] == "rate_limited"
        assert (await client.get("/api/v1/task-types", headers=theirs)).status_code == 200, "others are not held up"
        guesses = [
            (await client.get("/api/v1/groups", headers={"Authorization": f"Bearer {n}"})).status_code for n in range(9)
        ]
        assert guesses[0] == 401
        assert guesses[-1] == 429
        assert (await client.get("/api/v1/groups", headers=theirs)).status_code == 200, "who is known is not held up"


async def test_bad_credentials_count_at_every_door(valkey_url: str, tmp_path: Path, store: TaskStore) -> None:
    settings = settings_of(valkey_url, tmp_path, failure_limit=1)
    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as client:
        good = token_of(settings, user_id="7", scopes=PLAIN)
        codes = []
        for n in range(3):
            async with listening(url, 7, "?auth=message") as listener:
                await listener.say(type="auth", token=f"guess-{n}")
                codes.append(await listener.closed())
        assert codes == [1008, 1013, 1013]
        # The door is another one, the address is the same; what has not been checked before has to wait as well.
        assert (await client.post("/sign-in", data={"credential": good})).status_code == 429
    rpc = file_settings(tmp_path, access={"jwt_secret": SECRET, "failure_limit": 1})
    async with rpc_serving(store, rpc) as (_, channel, _intake):
        stub = task_pb2_grpc.TaskServiceStub(channel)
        known = metadata(rpc, "7", Scope.READ)

        async def code_of(credential: Any) -> grpc.StatusCode:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetTaskStatus(task_pb2.GetTaskStatusRequest(task_id="x"), metadata=credential)
            return refused.value.code()

        assert await code_of(known) is grpc.StatusCode.NOT_FOUND
        guesses = [await code_of((("authorization", f"Bearer guess-{n}"),)) for n in range(3)]
        assert guesses == [grpc.StatusCode.UNAUTHENTICATED, *[grpc.StatusCode.RESOURCE_EXHAUSTED] * 2]
        assert await code_of(known) is grpc.StatusCode.NOT_FOUND, "who is known is not held up"
        assert await code_of(metadata(rpc, "8", Scope.READ)) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_trusted_proxy_says_who_calls(valkey_url: str, tmp_path: Path, store: TaskStore) -> None:
    settings = settings_of(valkey_url, tmp_path, failure_limit=1, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])

    def forwarded(addresses: str, credential: str = "Bearer guess") -> dict[str, str]:
        return {"X-Forwarded-For": addresses, "Authorization": credential}

    async with client_of(settings) as client:
        for address, answers in (("192.0.2.1", [401, 429]), ("192.0.2.2", [401])):
            # What a caller writes itself comes before what the proxies add.
            told = forwarded(f"203.0.113.9, {address}, 10.1.2.3")
            assert [(await client.get("/api/v1/groups", headers=told)).status_code for _ in answers] == answers
        bearer = header(settings, "root", Scope.ADMIN)["Authorization"]
        told = forwarded("192.0.2.3", bearer)
        assert (await client.post("/api/v1/groups/default/pause", headers=told)).status_code == 200
        (entry,) = (await client.get("/api/v1/audit", headers=told)).json()["items"]
        assert entry["address"] == "192.0.2.3"
        secure = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.3"}
        signed = await client.post("/sign-in", data={"credential": bearer.partition(" ")[2]}, headers=secure)
        assert "secure" in signed.headers["set-cookie"].lower(), "TLS ends at the proxy"
    async with client_of(settings_of(valkey_url, tmp_path, failure_limit=1)) as client:
        answers = [
            (await client.get("/api/v1/groups", headers=forwarded(f"192.0.2.{n}"))).status_code for n in range(2)
        ]
        assert answers == [401, 429], "without the setting nobody is believed"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("ipv4:192.0.2.1:50000", "", "192.0.2.1"),
        ("ipv4:192.0.2.1:50000", "198.51.100.1", "192.0.2.1"),
        ("ipv4:10.0.0.1:50000", "198.51.100.1", "198.51.100.1"),
        ("ipv4:10.0.0.1:50000", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("ipv4:10.0.0.1:50000", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("ipv6:%5B::1%5D:50000", "198.51.100.1", "198.51.100.1"),
        ("ipv6:[2001:db8::1]:50000", "198.51.100.1", "2001:db8::1"),
        ("unix:", "198.51.100.1", "unix:"),
    ],
)
def test_the_address_of_a_grpc_call(peer: str, forwarded: str, address: str) -> None:
    proxies = [ip_network("10.0.0.0/8"), ip_network("::1")]
    assert address_of(peer, forwarded, proxies) == address


def test_a_trusted_proxy_is_an_address_or_a_network() -> None:
    with pytest.raises(ValueError, match="'proxy' is neither an IP address nor a network"):
        AccessSettings(trusted_proxies=["proxy"])


async def test_health_is_answered_while_the_store_is_away(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "store")
    server.start()
    async with client_of(settings_of(server.url(), tmp_path)) as client:
        server.kill()
        probe = {"X-API-Key": "cel_0123456789abcdef_secret"}
        assert (await client.get("/healthz", headers=probe)).status_code == 200


def test_an_empty_bucket_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from celeriac_api.access.limits import Buckets

    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    buckets = Buckets(1000.0, 2.0)
    assert [buckets.wait_s("a"), buckets.wait_s("a"), buckets.wait_s("b")] == [0.0, 0.0, 0.0]
    assert buckets.wait_s("a") == pytest.approx(0.001)
    now += 0.0006
    assert buckets.wait_s("a") == pytest.approx(0.0004)
    now += 0.0005
    assert buckets.wait_s("a") == 0.0
    now += 3600
    assert [buckets.wait_s("a") > 0 for _ in range(3)] == [False, False, True], "no fuller than full"


async def test_who_writes_too_slowly_is_cut_off(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path, jwt_secret=None, header_timeout=0.5, body_timeout=0.5)
    async with client_of(settings) as client:
        port = client.base_url.port
        head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n"
        for begun in (b"", head, head + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()
        assert (await client.get("/healthz")).status_code == 200


async def test_the_audit_tells_a_dry_run_from_the_real_thing(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path)
    wanted = {"action": "cancel", "filter": {"status": ["pending"]}}
    async with client_of(settings) as client:
        admin = header(settings, "root", Scope.ADMIN)
        for dry_run in (True, False):
            await client.post("/api/v1/bulk", json={**wanted, "dry_run": dry_run}, headers=admin)
        entries = (await client.get("/api/v1/audit", headers=admin)).json()["items"]
        assert [entry["action"] for entry in entries] == ["task.bulk", "task.bulk.dry_run"]


async def test_the_audit_says_who_did_what_from_where(valkey_url: str, tmp_path: Path, store: TaskStore) -> None:
    settings = settings_of(valkey_url, tmp_path)
    async with client_of(settings) as client:
        mine, admin = header(settings, "7", *PLAIN), header(settings, "root", Scope.ADMIN)
        document = {"type": "http_test.echo", "payload": {}}
        task_id = (await client.post("/api/v1/tasks", json=document, headers=mine)).json()["task_id"]
        await client.post(f"/api/v1/tasks/{task_id}/cancel", headers=header(settings, "8", *PLAIN))
        await client.post(f"/api/v1/tasks/{task_id}/cancel", headers=mine)
        await client.post(f"/api/v1/tasks/{task_id}/retry", headers=admin)
        await client.post("/api/v1/groups/blue/pause", headers=admin)
        assert (await client.get("/api/v1/audit", headers=mine)).status_code == 403
        page = (await client.get("/api/v1/audit?limit=2", headers=admin)).json()
        rest = (await client.get("/api/v1/audit", params={"cursor": page["next_cursor"]}, headers=admin)).json()
        said = [(e["actor"], e["action"], e["status"]) for e in [*page["items"], *rest["items"]]]
        assert [entry[:2] for entry in said] == [
            ("user:root", "group.pause"),
            ("user:root", "task.retry"),
            ("user:7", "task.cancel"),
        ], "who was refused ahead of the route did nothing"
        assert said[1][2] == "202"
        entry = rest["items"][0]
        assert (entry["target"], entry["address"]) == (f"/api/v1/tasks/{task_id}/cancel", "127.0.0.1")
        assert entry["credential"]
        assert rest["next_cursor"] is None
        of_task = (await client.get("/api/v1/audit", params={"task_id": task_id}, headers=admin)).json()
        assert [entry["action"] for entry in of_task["items"]] == ["task.retry", "task.cancel"]
        of_nobody = await client.get("/api/v1/audit", params={"task_id": "nobody"}, headers=admin)
        assert of_nobody.json() == {"items": [], "next_cursor": None}
        before_all = await client.get("/api/v1/audit", params={"cursor": "0-0"}, headers=admin)
        assert before_all.json() == {"items": [], "next_cursor": None}
