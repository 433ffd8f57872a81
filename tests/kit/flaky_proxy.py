"""A TCP proxy that loses answers, cuts connections and lets them go silent when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Self
from urllib.parse import urlsplit


class FlakyProxy:
    """Forwards a free port of the loopback to `upstream` (a URL, which may change)."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        #: Answers to swallow: the server gets the request, the client a broken connection.
        self.lose_answers = 0
        #: After how many bytes of its answers each further connection is cut; never when it is used up.
        self.cut_after: Iterator[int] = iter(())
        #: Connections that came so far.
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self._mute: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut_all()
        await self._server.wait_closed()

    def silence_all(self) -> None:
        """Forward nothing more over the connections that are open now, and close none: as a router that forgot them."""
        self._silent |= self._open

    def mute_all(self) -> None:
        """Forward no more answers over the connections that are open now, only what is asked."""
        self._mute |= self._open

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            where = urlsplit(self.upstream)
            answers, upstream = await asyncio.open_connection(where.hostname, where.port)
            asking = asyncio.create_task(self._ask(reader, upstream, writer))
            try:
                await self._answer(answers, writer)
            finally:
                asking.cancel()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            self._silent.discard(writer)
            self._mute.discard(writer)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = next(self.cut_after, None)
        while chunk := await answers.read(65536):
            if writer in self._silent or writer in self._mute:
                continue
            if self.lose_answers > 0:
                self.lose_answers -= 1
                return
            writer.write(chunk if left is None else chunk[:left])
            await writer.drain()
            if left is not None:
                left -= len(chunk)
                if left <= 0:
                    # Lets the last bytes arrive: an abort would take them back.
                    writer.close()
                    await writer.wait_closed()
                    return
        writer.close()
        await writer.wait_closed()

    async def _ask(
        self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                if client not in self._silent:
                    upstream.write(chunk)
                    await upstream.drain()
            upstream.write_eof()
