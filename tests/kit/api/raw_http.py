"""Bytes as a stranger sends them, without a client library that would refuse to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.kit.waiting import PATIENCE_S

HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + base64.b64encode(bytes(16))
    + b"\r\n"
)


@dataclass
class RawAnswer:
    """What came back until the server closed the connection, or for as long as the answer says."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document."""
        assert self.headers["content-type"].startswith("application/problem+json"), self
        document: dict[str, Any] = json.loads(self.body)
        return document


async def read_answer(reader: asyncio.StreamReader, *, of_head: bool = False) -> RawAnswer:
    """Read one answer with a Content-Length; that of a HEAD has no body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    size = 0 if of_head else int(headers.get("content-length", 0))
    return RawAnswer(int(first.split()[1]), headers, await reader.readexactly(size))


async def ask(port: int | None, pieces: Iterable[bytes], *, pause: bool = False, of_head: bool = False) -> RawAnswer:
    """Send pieces of one request, and return the answer; with `pause`, each piece arrives alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(asyncio.wait_for(read_answer(reader, of_head=of_head), PATIENCE_S))
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if answer.done():
                    break
                writer.write(piece)
                await writer.drain()
                if pause:
                    await asyncio.sleep(0.001)
        return await answer
    finally:
        answer.cancel()
        writer.close()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Return whether the server ends the connection without a further byte."""
    try:
        return await asyncio.wait_for(reader.read(1), PATIENCE_S) == b""
    except ConnectionError:
        return True


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    """Return a WebSocket frame of a client."""
    mask = os.urandom(4)
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else bytes([0xFE]) + size.to_bytes(2, "big")
        if size < 2**16
        else bytes([0xFF]) + size.to_bytes(8, "big")
    )
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([0x80 * fin | opcode]) + length + mask + masked
