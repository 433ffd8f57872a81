"""The worst messages to the doors that are not HTTP routes: WebSockets and gRPC. No traceback, and nobody is held up.

The messages are made from the tables of the protocols in the code, and gRPC's from the descriptors of its services.
"""

from __future__ import annotations

import inspect
import json
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from celeriac.access.principal import Scope
from celeriac.settings import Settings
from celeriac_api.gateway import messages
from celeriac_api.gateway.session import WorkerSession
from celeriac_api.routes.notifications import user_connection
from celeriac_api.routes.notifications.user_connection import UserConnection
from celeriac_proto.task import task_pb2
from tests.kit.api.raw_http import HANDSHAKE
from tests.kit.api.watched_api import Health, api, log_of
from tests.kit.api.worst_inputs import EXTREME_TEXTS, tiny_frames, worst_messages
from tests.kit.tokens import token_of

#: The longest message of a refusal (bytes).
REFUSAL_BYTES = 2000
#: The clients of users may send more and faster than by default, so that their messages get as far as they can.
LENIENT = {
    "CELERIAC_NOTIFICATIONS__MAX_CLIENT_RATE": "100000",
    "CELERIAC_NOTIFICATIONS__MAX_CLIENT_BYTES": "4MiB",
}
#: As much as one read from a socket may have.
FLOOD_BYTES = 256 * 1024
#: The part of the time of a flood for which another caller may wait.
FLOOD_PART = 1 / 4


class Worker:
    """A remote worker that has work at hand, and sends what it should not."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._running: deque[str] = deque()

    def send(self, socket: ClientConnection, text: str) -> list[str]:
        """Send a message about a task at hand; returns what it is answered."""
        if not self._running:
            call = {"data": {}, "async": True, "maxRetries": 0, "timeout": 600_000}
            assert httpx.post(f"http://127.0.0.1:{self._port}/api/openai", json=call, timeout=60).status_code == 200
        socket.send('{"type":"ready","concurrency":1}')
        while not self._running:
            self._hear(socket.recv(20))
        socket.send(text.replace("TASK", self._running[0]))
        if re.search(r'"type":"task_(complete|error)"', text):
            # It may have been refused, or have ended the task: now it has ended.
            socket.send(json.dumps({"type": "task_error", "taskId": self._running.popleft(), "error": "x"}))
        socket.send('{"type":"ping"}')
        heard: list[str] = []
        while not heard or heard[-1] != messages.PONG:
            heard.append(str(socket.recv(20)))
            self._hear(heard[-1])
        return [message for message in heard if '"error"' in message[:30]]

    def _hear(self, text: str | bytes) -> None:
        message = json.loads(text)
        if message["type"] == "task" and message["taskId"] not in self._running:
            self._running.append(message["taskId"])


def send_as_user(socket: ClientConnection, text: str) -> list[str]:
    socket.send(text.replace("TASK", "nothing"))
    socket.send('{"type":"ping"}')
    heard: list[str] = []
    while not heard or not heard[-1].startswith('{"type":"pong"'):
        heard.append(str(socket.recv(20)))
    return [message for message in heard if message.startswith('{"type":"error"')]


def test_the_tables_of_the_protocols_are_whole() -> None:
    """What the code handles, the tables name."""
    handled = re.findall(r'"(\w+)": (?:self\.|lambda)', inspect.getsource(WorkerSession.__init__))
    assert handled == list(messages.FIELDS)
    read = re.findall(r'case "(\w+)"', inspect.getsource(UserConnection._listen))
    assert sorted(read) == sorted(user_connection.FIELDS)


@pytest.mark.timeout(300)
def test_the_worst_messages_of_each_type_end_no_socket_and_hold_up_nobody(valkey_url: str, tmp_path: Path) -> None:
    wrong: list[str] = []
    with api(valkey_url, tmp_path, **LENIENT) as (port, _), Health(port) as health:
        limit_s = health.limit_s()
        token = token_of(Settings(data_dir=tmp_path), user_id="1", scopes=list(Scope))
        doors: dict[str, tuple[dict[str, tuple[str, ...]], Callable[[ClientConnection, str], list[str]]]] = {
            "/ws": (messages.FIELDS, Worker(port).send),
            f"/api/task/ws/task/1?token={token}": (user_connection.FIELDS, send_as_user),
        }
        for path, (fields, send) in doors.items():
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, compression=None) as socket:
                for kind, text in worst_messages(fields, most_bytes=50_000, whole_bytes=3 * 1024**2):
                    try:
                        longest_s, refusals = health.held_up_s(limit_s, partial(send, socket, text))
                    except (ConnectionClosed, TimeoutError) as exc:
                        pytest.fail(f"{path[:20]} with {kind}: {exc!r} {log_of(tmp_path)[-3000:]}")
                    if longest_s > limit_s:
                        wrong.append(f"{path[:20]} with {kind}: /healthz took {longest_s:.2f} s of {limit_s:.2f} s")
                    if (long := max(map(len, refusals), default=0)) > REFUSAL_BYTES:
                        wrong.append(f"{path[:20]} with {kind}: an error of {long} bytes")
                    if any("the server" in refusal for refusal in refusals):
                        wrong.append(f"{path[:20]} with {kind}: {refusals}")
    assert not wrong, "\n".join([f"{len(wrong)} of them:", *wrong])
    assert "Traceback" not in log_of(tmp_path)


@pytest.mark.timeout(300)
def test_floods_of_tiny_frames_of_a_known_caller_hold_up_nobody(valkey_url: str, tmp_path: Path) -> None:
    """Others are answered in between; before, they waited for half of the time that a flood took."""
    wrong: list[str] = []
    with api(valkey_url, tmp_path, **LENIENT) as (port, _), Health(port) as health:
        token = token_of(Settings(data_dir=tmp_path), user_id="1", scopes=list(Scope))
        for path in ("/ws", f"/api/task/ws/task/1?token={token}"):
            for kind, frames in tiny_frames(FLOOD_BYTES).items():
                parts = []
                # Another program may have had the processor: not three times in a row.
                while len(parts) < 3 and min(parts, default=1.0) > FLOOD_PART:
                    begun = time.monotonic()
                    flood(port, path, frames)
                    took_s = time.monotonic() - begun
                    time.sleep(0.1)
                    parts.append(health.longest_s(begun) / took_s)
                if min(parts) > FLOOD_PART:
                    wrong.append(f"{path[:20]} with {kind}: /healthz waited for {parts} of the time")
    assert not wrong, "\n".join([f"{len(wrong)} of them:", *wrong])
    assert "Traceback" not in log_of(tmp_path)


def flood(port: int, path: str, frames: bytes) -> None:
    """Send frames at once, and a close; returns when the server has ended the connection, reading what it sends."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + HANDSHAKE + b"\r\n"
        client.sendall(head)
        client.recv(65536)
        client.setblocking(False)
        left = memoryview(frames + b"\x88\x80" + bytes(4))
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                left = left[client.send(left) :] if left else left
            except BlockingIOError:
                pass
            except OSError:
                return
            try:
                if client.recv(1 << 20) == b"":
                    return
            except BlockingIOError:
                time.sleep(0.002)
            except OSError:
                return
        raise AssertionError(f"{path[:20]} has not ended")


def worst_requests() -> Iterator[tuple[str, str, bytes]]:
    """Yield a method of gRPC, what is bad, and the request: for each field of each method of the task service."""
    service = task_pb2.DESCRIPTOR.services_by_name["TaskService"]
    for method in service.methods:
        name = f"/{service.full_name}/{method.name}"
        for field in method.input_type.fields:
            tag = bytes([field.number << 3 | 2])
            texts = {kind: text.encode() for kind, text in EXTREME_TEXTS.items()} | {
                "invalid UTF-8": b"\xff\xfe\x80" * 1000,
                "half a character": b"\xed\xa0\x80",
                "a path of many folders": b"/tmp" + b"/x" * 200_000,
                "a path that goes up": b"/tmp" + b"/.." * 200_000,
                "a path of many links": b"/proc/self/root" * 2000,
                "a long name": b"/tmp/" + b"n" * 500_000,
                "a device": b"/dev/zero",
            }
            for kind, text in texts.items():
                yield name, f"{kind} as {field.name}", tag + length(len(text)) + text
            yield name, f"{field.name} many times", (tag + b"\x01x") * 200_000
            yield name, f"a number as {field.name}", bytes([field.number << 3]) + b"\xff" * 9 + b"\x01"
            yield name, f"a promise of more as {field.name}", tag + b"\xff\xff\xff\xff\x07x"
        yield name, "very many unknown fields", b"".join(bytes([0xF8, 0x01]) + b"\x01" for _ in range(200_000))
        yield name, "deep groups", b"\xfb\x01" * 200_000
        yield name, "a long unknown field", b"\xfa\x01" + length(900_000) + b"x" * 900_000
        yield name, "nothing", b""


def length(number: int) -> bytes:
    """Return a length as protobuf writes it."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def refusal_of(channel: grpc.Channel, method: str, request: bytes) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(request, timeout=30)
    return refused.value


@pytest.mark.timeout(120)
def test_the_worst_requests_of_grpc_are_refused_briefly_and_hold_up_nobody(valkey_url: str, tmp_path: Path) -> None:
    allowed = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
    wrong: list[str] = []
    with (
        api(valkey_url, tmp_path) as (port, grpc_port),
        Health(port) as health,
        grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
    ):
        limit_s = health.limit_s()
        for method, kind, request in worst_requests():
            longest_s, refused = health.held_up_s(limit_s, partial(refusal_of, channel, method, request))
            if longest_s > limit_s:
                wrong.append(f"{method} with {kind}: /healthz took {longest_s:.2f} s of {limit_s:.2f} s")
            if refused.code().name not in allowed or len(refused.details()) > REFUSAL_BYTES:
                wrong.append(f"{method} with {kind}: {refused.code()} {refused.details()[:300]}")
        assert not httpx.get(f"http://127.0.0.1:{port}/api/v1/tasks?limit=1", timeout=60).json()["items"]
    assert not wrong, "\n".join([f"{len(wrong)} of them:", *wrong])
    assert "Traceback" not in log_of(tmp_path)
