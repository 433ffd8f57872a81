"""What a caller may send before the server knows who it is: little, for a short time, at nobody's expense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import websockets

from celeriac.settings import AccessSettings, ServerSettings, Settings
from celeriac_api.routing import WEBSOCKET
from tests.kit.api.access import client_of, settings_of
from tests.kit.api.http_serving import ROUTES, serving
from tests.kit.api.notification_client import listening
from tests.kit.api.raw_http import HANDSHAKE, ask, frame, is_closed, read_answer
from tests.kit.tokens import token_of
from tests.kit.waiting import PATIENCE_S, eventually

MB = 1024 * 1024


def paths(line: str) -> tuple[str, str]:
    method, _, path = line.partition(" ")
    return method, re.sub(r"\{[^}]+\}", "x", path)


@pytest.mark.parametrize("chunked", [False, True])
async def test_no_route_reads_a_body_before_the_credential(valkey_url: str, tmp_path: Path, chunked: bool) -> None:
    """Whatever the route: the refusal comes while the body is not there, and closes the connection."""
    async with client_of(settings_of(valkey_url, tmp_path)) as client:
        for line in ROUTES:
            method, path = paths(line)
            if method == WEBSOCKET:
                continue
            size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (100 * MB)
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n".encode() + size
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(head + b"\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n")
            if path == "/sign-in" and method == "POST" and chunked:
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(b"%x\r\n" % MB + b"a" * MB + b"\r\n")
            head_line = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode().lower()
            status = int(head_line.split()[1])
            if not ROUTES[line].open:
                assert status in (303, 401), line
            elif path == "/sign-in" and method == "POST":
                assert status == 413, line
            if not ROUTES[line].open or status == 413:
                assert "connection: close" in head_line, line
            writer.close()


async def test_large_bodies_of_strangers_are_not_kept(valkey_url: str, tmp_path: Path) -> None:
    """The refusal of a body reaches clients that write all of it before they read, and costs no memory."""
    settings = settings_of(valkey_url, tmp_path)
    process = psutil.Process()
    async with client_of(settings) as client:
        for path, status in (("/sign-in", 413), ("/api/v1/tasks", 401), ("/api/v1/files/", 401), ("/nothing", 401)):
            answer = await client.post(path, content=b"a" * 9 * MB)
            assert answer.status_code == status, path
        before = process.memory_info().rss
        begun = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (9 * MB)
        pieces = [begun, b"a" * MB]
        answers = await asyncio.gather(*(ask(client.base_url.port, pieces) for _ in range(60)))
        assert {answer.status for answer in answers} == {413}
        # The buffers of the test itself count too.
        assert process.memory_info().rss - before < 60 * MB


async def test_an_open_route_takes_a_body_for_a_short_time_only(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path).model_copy(update={"server": ServerSettings(unproven_timeout=0.5)})
    async with client_of(settings) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n")
        answer = asyncio.ensure_future(read_answer(reader))
        while not answer.done():
            writer.write(b"a")
            await asyncio.wait({answer}, timeout=0.1)
        assert (answer.result().status, answer.result().problem["code"]) == (408, "request_timeout")
        assert await is_closed(reader)
        writer.close()


async def test_strangers_take_no_place_of_a_user(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path).model_copy(
        update={"server": ServerSettings(max_unproven_per_address=30)}
    )
    async with client_of(settings) as client:
        url = f"ws://127.0.0.1:{client.base_url.port}/api/task/ws/task/1"
        async with contextlib.AsyncExitStack() as open_ones:
            for _ in range(30):
                await open_ones.enter_async_context(websockets.connect(f"{url}?auth=message"))
            with pytest.raises(websockets.InvalidStatus) as refused:
                await open_ones.enter_async_context(websockets.connect(f"{url}?auth=message"))
            assert refused.value.response.status_code == 429
            assert b"too_many_connections" in refused.value.response.body
            token = token_of(settings, user_id="1", scopes=())
            most = settings.notifications.max_connections_per_user
            for _ in range(most):
                socket = await open_ones.enter_async_context(websockets.connect(f"{url}?token={token}"))
                assert json.loads(await socket.recv())["type"] == "connected"
            with pytest.raises(websockets.InvalidStatus):
                await open_ones.enter_async_context(websockets.connect(f"{url}?token={token}"))

        async def there_is_room() -> bool:
            with contextlib.suppress(websockets.InvalidStatus):
                async with websockets.connect(f"{url}?auth=message") as socket:
                    await socket.send(json.dumps({"type": "auth", "token": token}))
                    return bool(json.loads(await socket.recv())["type"] == "connected")
            return False

        await eventually(there_is_room, because="closed connections free their places")


async def test_a_user_who_has_too_many_connections_is_told_after_the_token(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path)
    async with client_of(settings) as client, contextlib.AsyncExitStack() as open_ones:
        url = f"ws://127.0.0.1:{client.base_url.port}/api/task/ws/task/1"
        token = token_of(settings, user_id="1", scopes=())
        for _ in range(settings.notifications.max_connections_per_user):
            await open_ones.enter_async_context(websockets.connect(f"{url}?token={token}"))
        socket = await open_ones.enter_async_context(websockets.connect(f"{url}?auth=message"))
        await socket.send(json.dumps({"type": "auth", "token": token}))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, "too many connections" in closed.value.rcvd.reason) == (1013, True)


@pytest.mark.parametrize("path", ["/api/task/ws/task/1?auth=message", "/api/task/ws/task/1", "/ws", "/nothing"])
@pytest.mark.parametrize("shape", ["one frame", "fragments", "a promise", "many pings"])
async def test_a_frame_before_the_proof_is_small(valkey_url: str, tmp_path: Path, path: str, shape: str) -> None:
    """Neither in one piece nor in many does a stranger's message get large; a refused handshake reads none at all."""
    async with client_of(settings_of(valkey_url, tmp_path)) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + HANDSHAKE + b"\r\n")
        if path.endswith("message"):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        if shape == "one frame":
            writer.write(frame(b"a" * 20_000))
        elif shape == "fragments":
            writer.write(frame(b"a", fin=False) + frame(b"", opcode=0, fin=False) * 100)
            writer.write(frame(b"a" * 1000, opcode=0, fin=False) * 20)
        elif shape == "many pings":
            writer.write(frame(b"", opcode=9) * 50_000)
        else:
            writer.write(b"\x81\xff" + (15 * MB).to_bytes(8, "big") + bytes(4))
        ended = await asyncio.wait_for(reader.read(100_000), PATIENCE_S)
        if path.endswith("message"):
            assert ended[0] == 0x88, ended[:100]
            assert int.from_bytes(ended[2:4], "big") == 1009
        else:
            assert ended.split()[1] in (b"401", b"403", b"404"), ended[:100]
        writer.close()


async def test_after_the_proof_messages_may_be_as_large_as_the_settings_say(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path, jwt_secret=None)
    async with client_of(settings) as client:
        url = f"ws://127.0.0.1:{client.base_url.port}/ws"
        async with websockets.connect(url, max_size=None) as worker:
            assert json.loads(await worker.recv())["type"] == "connected"
            await worker.send(json.dumps({"type": "ping", "padding": "a" * (settings.dispatch.max_frame_bytes - 100)}))
            assert json.loads(await worker.recv()) == {"type": "pong"}
            await worker.send(iter(['{"type":', *[" "] * 5000, '"ping"}']))
            assert json.loads(await worker.recv()) == {"type": "pong"}


#: Hosts without authentication, and whether a caller may use them.
HOSTS = {
    "localhost": True,
    "LOCALHOST:8000": True,
    "localhost.": True,
    "my.localhost:1": True,
    "127.0.0.1": True,
    "192.168.1.20:8000": True,
    "10.0.0.7": True,
    "[::1]:8000": True,
    "[fe80::1]": True,
    "celeriac": True,
    "CELERIAC:8000": True,
    "api.internal": True,
    "evil.example": False,
    "evil.example:8000": False,
    "evil@127.0.0.1": False,
    "127.0.0.1.evil.example": False,
    "127.0.0.1@evil.example": False,
    "localhost.evil.example": False,
    "xlocalhost": False,
    "[::1].evil.example": False,
    "[evil.example]": False,
    "internal": False,
    "0x7f.1": False,
    "": False,
    "127.0.0.1/x": False,
    "127.0.0.1, evil.example": False,
}


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0", "::", "192.0.2.1"])
def test_without_authentication_the_host_is_checked_wherever_the_server_listens(listens_on: str) -> None:
    from celeriac_api.access.browsers import Browsers
    from celeriac_api.access.credentials import Head
    from celeriac_api.http.problems import RequestError

    browsers = Browsers(AccessSettings(allowed_hosts=["celeriac", "API.internal"]), host=listens_on)
    for host, allowed in HOSTS.items():
        for _ in range(2):
            if allowed:
                browsers.check_host(Head(host=host))
            else:
                with pytest.raises(RequestError, match="CELERIAC_ACCESS__ALLOWED_HOSTS") as refused:
                    browsers.check_host(Head(host=host))
                assert refused.value.code == "host_not_allowed"
    protected = Browsers(AccessSettings(enabled=True), host=listens_on)
    for host in HOSTS:
        protected.check_host(Head(host=host))


async def test_a_name_that_points_here_reaches_nothing(valkey_url: str, tmp_path: Path) -> None:
    settings = Settings(
        redis_url=valkey_url, data_dir=tmp_path, host="0.0.0.0", access=AccessSettings(allowed_hosts=["api"])
    )
    async with client_of(settings) as client:
        for line in ROUTES:
            method, path = paths(line)
            upgrade = HANDSHAKE if method == WEBSOCKET else b""
            method = "GET" if method == WEBSOCKET else method
            rebound = f"{method} {path} HTTP/1.1\r\nHost: evil.example:8000\r\nOrigin: http://evil.example:8000\r\n"
            answer = await ask(client.base_url.port, [rebound.encode() + upgrade + b"\r\n"], of_head=method == "HEAD")
            assert answer.status == 421, line
        document: dict[str, Any] = {"type": "http_test.echo", "payload": {}}
        for host in ("api", "192.168.1.7:8000", "localhost"):
            assert (await client.post("/api/v1/tasks", json=document, headers={"Host": host})).status_code == 202


@pytest.mark.parametrize("host", ["http://api", "api:8000", "api/", "*", "", "a b"])
def test_an_allowed_host_is_a_bare_name(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host name: write api"):
        AccessSettings(allowed_hosts=[host])


@pytest.mark.parametrize("name", ["token", "%74oken", "t%6Fken", "%74%6f%6b%65%6e"])
@pytest.mark.parametrize("on", [True, False])
async def test_no_spelling_of_the_query_escapes_the_limit_of_refused_credentials(
    valkey_url: str, tmp_path: Path, name: str, on: bool
) -> None:
    settings = settings_of(valkey_url, tmp_path, failure_limit=5, enabled=on)
    async with client_of(settings) as client:
        path = f"/api/task/ws/task/1?{name}="
        asked = [
            await ask(
                client.base_url.port,
                [f"GET {path}guess{n} HTTP/1.1\r\nHost: localhost\r\n".encode() + HANDSHAKE + b"\r\n"],
            )
            for n in range(8)
        ]
        assert [answer.status for answer in asked] == [401] * 5 + [429] * 3
        guessed = token_of(settings, user_id="1", scopes=())
        url = f"ws://127.0.0.1:{client.base_url.port}{path}"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"{url}{guessed}")
        assert refused.value.response.status_code == 429, "a right guess is not told apart"


@pytest.mark.parametrize("name", ["token", "%74oken"])
async def test_a_token_in_the_query_is_taken_however_it_is_spelled(valkey_url: str, tmp_path: Path, name: str) -> None:
    settings = settings_of(valkey_url, tmp_path)
    async with (
        serving(settings) as url,
        listening(url, 1, f"?{name}={token_of(settings, user_id='1', scopes=())}") as listener,
    ):
        await listener.next("connected")


#: Values of headers that parsers of other programs have needed quadratic time for.
ROUGH = [
    '"\\1',
    '\\"',
    ";",
    ';"',
    "a=;",
    'a="b;c";',
    ",",
    "0-1,",
    "QQ,",
    "a;q=0.1,",
    "%41",
    "(",
    "[:",
    "celeriac_session=",
]
NAMES = (
    "Cookie", "Origin", "Authorization", "X-API-Key", "Content-Type", "Content-Encoding", "Accept", "Accept-Encoding",
    "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Last-Event-ID", "Idempotency-Key", "Upload-Metadata",
    "Upload-Checksum", "Content-Digest", "X-Forwarded-For", "Forwarded", "Sec-WebSocket-Protocol", "Sec-Fetch-Site",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_no_header_of_a_stranger_takes_long_to_read(valkey_url: str, tmp_path: Path, name: str) -> None:
    size = 7900 if name.startswith("Sec-WebSocket") else 15_800
    async with client_of(settings_of(valkey_url, tmp_path, trusted_proxies=["127.0.0.1"])) as client:

        async def cpu_s(line: str, value: str) -> float:
            method, path = paths(line)
            upgrade = HANDSHAKE if method == WEBSOCKET else b""
            head = (
                f"{'GET' if method == WEBSOCKET else method} {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n"
            )
            best = float("inf")
            for _ in range(2):
                began = time.process_time()
                answer = await ask(client.base_url.port, [head.encode() + upgrade + b"\r\n"], of_head=method == "HEAD")
                best = min(best, time.process_time() - began)
                assert answer.status < 500, (line, value[:20])
            return best

        for line in ("GET /healthz", "POST /api/v1/files/", "POST /api/v1/uploads", "POST /sign-in", "WS /ws"):
            plain = await cpu_s(line, "a" * size)
            for piece in ROUGH:
                value = piece * (size // len(piece))
                for quoted in (value, f'a="{value[:-4]}"'):
                    assert await cpu_s(line, quoted) < 10 * plain + 0.01, (line, piece)
