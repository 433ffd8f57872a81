"""A TCP proxy in a thread of its own that can cut a server off from everybody, and let it come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, cast

#: Most bytes that wait for one slow end.
_BUFFER: Final = 256 * 1024


class CuttableProxy:
    """Forwards `port` of the loopback to `upstream`, another port of it. It works for blocking and asyncio tests alike.

    `drop()`: all connections break and new ones are refused at once, as after the death of a machine whose network
    answers for it. `stall()`: nothing is forwarded and nothing is closed, as behind a broken cable; what was sent
    meanwhile arrives after `open()`, as it does when TCP sends it again.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self._dropped = False
        self._stalled = False
        self._ends: set[_End] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen; returns when connections are accepted."""
        self._thread.start()
        self._run(self._listen)

    def stop(self) -> None:
        """Close everything. Idempotent."""
        if self._thread.is_alive():
            self._run(self._close)
            self._run(lambda: asyncio.sleep(0.01))  # for the aborted transports to close
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def drop(self) -> None:
        """Break all connections and refuse new ones until `open()`."""
        self._run(self._drop)

    def stall(self) -> None:
        """Forward nothing until `open()`, over old and new connections."""
        self._run(lambda: self._set_stalled(True))

    def open(self) -> None:
        """Forward again."""
        self._run(self._open)

    def _run(self, step: Callable[[], None] | Callable[[], object]) -> None:
        """Run a step, which may be a coroutine function, in the proxy's thread and wait for it."""

        async def stepping() -> None:
            found = step()
            if asyncio.iscoroutine(found):
                await found

        asyncio.run_coroutine_threadsafe(stepping(), self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _End(self), "127.0.0.1", self.port, backlog=1024)

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.abort()

    async def _drop(self) -> None:
        self._dropped = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for end in list(self._ends):
            end.abort()

    async def _open(self) -> None:
        self._dropped = False
        if self._server is None:
            await self._listen()
        self._set_stalled(False)

    def _set_stalled(self, stalled: bool) -> None:
        self._stalled = stalled
        for end in self._ends:
            end.set_paused()


class _End(asyncio.Protocol):
    """One end of a forwarded connection; `peer` is the other one, once it is connected."""

    def __init__(self, proxy: CuttableProxy, peer: _End | None = None) -> None:
        self._proxy = proxy
        self._peer = peer
        self._accepted = peer is None
        self._full = False
        self._reading = True
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_BUFFER)
        self._proxy._ends.add(self)
        if self._peer is None:
            self._connecting = asyncio.ensure_future(self._connect())
        else:
            self._peer._peer = self
            self._peer.set_paused()
        self.set_paused()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _End(self._proxy, self), "127.0.0.1", self._proxy.upstream)
        except OSError:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._peer is not None and self._peer._transport is not None:
            self._peer._transport.write(data)

    def pause_writing(self) -> None:
        self._set_full(True)

    def resume_writing(self) -> None:
        self._set_full(False)

    def _set_full(self, full: bool) -> None:
        self._full = full
        if self._peer is not None:
            self._peer.set_paused()

    def set_paused(self) -> None:
        """Read only if the other end is there and takes more, and the proxy does not stall."""
        peer = self._peer
        reading = peer is not None and peer._transport is not None and not peer._full and not self._proxy._stalled
        if self._transport is None or self._transport.is_closing() or reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def abort(self) -> None:
        """Break the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy._ends.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        peer, self._peer = self._peer, None
        if peer is not None and peer._transport is not None:
            peer._transport.close()  # what was read already still arrives
