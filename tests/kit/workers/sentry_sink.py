"""A place where Sentry's SDK sends its envelopes."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SentrySink:
    """Takes envelopes over HTTP and keeps their items."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.items += items_of(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def dsn(self) -> str:
        """The address for the SDK."""
        return f"http://key@127.0.0.1:{self._server.server_port}/1"

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of one kind: `event` for errors, `transaction` for traces."""
        return [item["payload"] for item in list(self.items) if item["type"] == kind]


def items_of(envelope: bytes) -> list[dict[str, Any]]:
    """Return the items of an envelope whose payloads are JSON: each has `type` and `payload`."""
    lines = envelope.split(b"\n")[1:]
    found = []
    while len(lines) >= 2:
        header, payload, *lines = lines
        if header:
            found.append({"type": json.loads(header)["type"], "payload": json.loads(payload)})
    return found
