"""Submits over HTTP and waits for each result: `POST ?wait`, and `POST` with `GET ?wait`, on one raw connection."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any
from urllib.parse import urlsplit

_TYPE = os.environ.get("BENCH_TYPE", "bench.noop_async")


class Connection:
    """A connection that sends one request after another, so that the server and not the client is measured."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._host = f"{place.hostname}:{place.port}"
        self._socket = socket.create_connection((place.hostname or "", place.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def send(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        """Return the JSON object of an answer; raises an error for any status but 2xx."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._more()
        answered, _, fields = self._rest[:end].decode("latin-1").partition("\r\n")
        length = next(
            int(line.partition(":")[2]) for line in fields.split("\r\n") if line.lower().startswith("content-length:")
        )
        while len(self._rest) < end + 4 + length:
            self._more()
        text, self._rest = self._rest[end + 4 : end + 4 + length], self._rest[end + 4 + length :]
        if answered.split(" ")[1][0] != "2":
            raise RuntimeError(f"{method} {path}: {answered}: {text[:500].decode()}")
        found: dict[str, Any] = json.loads(text)
        return found

    def _more(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionError("the server hung up")
        self._rest += piece


def latencies_ms(count: int, payload: dict[str, Any]) -> list[float]:
    """Submit one task after another; return the time of each until its result is here (milliseconds)."""
    connection = Connection(os.environ["BENCH_API"])
    body = json.dumps({"type": _TYPE, "payload": payload}).encode()
    in_one = os.environ["BENCH_HTTP"] == "one"
    found = []
    for _ in range(count):
        began = time.perf_counter()
        if in_one:
            answer = connection.send("POST", "/api/v1/tasks?wait=30", body)
        else:
            task_id = connection.send("POST", "/api/v1/tasks", body)["task_id"]
            answer = connection.send("GET", f"/api/v1/tasks/{task_id}/result?wait=30")
        found.append(1000 * (time.perf_counter() - began))
        if answer["status"] != "completed":
            raise RuntimeError(f"the task has not completed: {answer}")
    return found
