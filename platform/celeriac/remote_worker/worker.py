"""A remote worker: connects, takes tasks, connects again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import signal
import ssl as tls
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException

from celeriac.client.address import Address, find_address
from celeriac.errors import SettingsError, WorkerRefusedError
from celeriac.remote_worker import messages
from celeriac.remote_worker.backoff import REFUSED, RESTARTING, pause_s
from celeriac.remote_worker.connection import Connection
from celeriac.remote_worker.crew import Crew
from celeriac.remote_worker.execution import Handler

log = logging.getLogger("celeriac.remote_worker")

H = TypeVar("H", bound=Handler)

#: Answers to the handshake that no later attempt changes.
_FINAL_ANSWERS: Final = frozenset({400, 401, 403, 404, 405, 426})
#: How long a server may take to answer that it has heard of the worker's leaving (seconds).
_ANSWER_S: Final = 5.0


class RemoteWorker:
    """Runs a handler for the tasks of a group, as a program of your own that needs no store and no Celery.

    `url` is the API's (`http://…`, `https://…`, or the gateway's own `ws://…/ws`); where it is left out, the address
    is found as `celeriac.Client` finds it. The handler gets a `RemoteTask` and returns what JSON can say;
    a coroutine function runs in the event loop, a plain one in a thread. What it raises fails the task: `SkipRetry`
    for good, everything else by the task's own policy.
    """

    def __init__(
        self,
        url: str | None = None,
        handler: Handler | None = None,
        *,
        group: str = "default",
        token: str | None = None,
        concurrency: int = 1,
        models: Sequence[str] = (),
        name: str | None = None,
        drain_timeout_s: float = 30.0,
        heartbeat_s: float = 15.0,
        reconnect_max_s: float = 30.0,
        max_message_bytes: int = 16 * 1024**2,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        if concurrency < 1:
            raise SettingsError(f"concurrency is at least 1, not {concurrency}")
        if isinstance(models, str):
            raise SettingsError(f"models is a list of names, not the text {models!r}")
        self._address = _address(url, token)
        self._handler = handler
        self._group = group
        self._concurrency = concurrency
        self._models = tuple(models)
        self._name = name
        self._drain_timeout_s = drain_timeout_s
        self._heartbeat_s = heartbeat_s
        self._reconnect_max_s = reconnect_max_s
        self._max_message_bytes = max_message_bytes
        self._ssl = ssl
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it connects to."""
        scheme, _, rest = self._address.url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws?group={quote(self._group, safe='')}"

    def handler(self, function: H) -> H:
        """Make a function the handler of this worker. To be used as a decorator."""
        self._handler = function
        return function

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (Ctrl-C), which let running tasks finish; a second one does not.

        Raises `WorkerRefusedError` when the server does not want this worker.
        """
        asyncio.run(self._run_with_signals())

    async def run_async(self) -> None:
        """Work until `stop` is called or this is cancelled. Leaves signals alone.

        Raises `WorkerRefusedError` when the server does not want this worker.
        """
        if self._handler is None:
            raise SettingsError(
                "this remote worker has no handler: pass one, or decorate a function with @worker.handler"
            )
        self._loop = asyncio.get_running_loop()
        crew = Crew(
            self._handler,
            concurrency=self._concurrency,
            models=self._models,
            name=self._name,
            limit=self._max_message_bytes,
        )
        try:
            await self._work(crew)
        finally:
            self._loop = None
            await crew.abandon()

    def stop(self) -> None:
        """Take no more tasks, finish those that run (for `drain_timeout_s` at most), and end. From any thread."""
        if self._loop is None:
            self._stopping.set()
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not on Windows, and not beside the main thread: there Ctrl-C ends it at once.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._signalled)
        await self.run_async()

    def _signalled(self) -> None:
        if self._stopping.is_set():
            self._hurried.set()
        else:
            log.info("stopping: running tasks may finish; once more to stop at once")
            self._stopping.set()

    async def _work(self, crew: Crew) -> None:
        failures = 0
        while not self._stopping.is_set():
            code, greeted = await self._connect_and_serve(crew)
            failures = 0 if greeted else failures + 1
            if self._stopping.is_set():
                return
            longest_s = 1.0 if code in RESTARTING else self._reconnect_max_s
            pause = pause_s(failures, code, longest_s=longest_s, random=random.random())  # noqa: S311 - spreads load
            log.info("connecting again in %.1f s", pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _connect_and_serve(self, crew: Crew) -> tuple[int | None, bool]:
        """Return what a connection was closed with, and whether it stood at all."""
        try:
            async with self._connected() as socket:
                if socket is None:
                    return None, False
                connection = Connection(socket, crew)
                await self._serve(connection, crew)
        except InvalidStatus as exc:
            status = exc.response.status_code
            if status in _FINAL_ANSWERS:
                said = _said(bytes(exc.response.body or b""))
                raise WorkerRefusedError(self.url, f"HTTP {status}{f': {said}' if said else ''}") from exc
            log.warning("%s answered HTTP %d", self.url, status)
            return None, False
        except InvalidURI as exc:
            raise SettingsError(f"the gateway's address cannot be used: {exc}") from exc
        except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as exc:
            log.warning("%s cannot be reached: %s", self.url, str(exc) or type(exc).__name__)
            return None, False
        code, reason = connection.closed_with
        if code == REFUSED:
            raise WorkerRefusedError(self.url, reason or f"closed with {code}")
        if not self._stopping.is_set():
            log.info("disconnected (%s)", "it broke" if code is None else f"{code} {reason}".strip())
        return code, bool(connection.worker_id)

    async def _serve(self, connection: Connection, crew: Crew) -> None:
        serving = asyncio.create_task(connection.serve(), name="remote-worker-connection")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await self._drain(connection, crew, serving)
            crew.lost(connection, await serving)
        finally:
            stopping.cancel()
            serving.cancel()
            await asyncio.wait({serving, stopping})

    async def _drain(self, connection: Connection, crew: Crew, serving: asyncio.Task[object]) -> None:
        """Finish what runs, as far as there is time for it, and close."""
        connection.draining = True
        connection.outbox.put(messages.drain())
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_timeout_s
        # A task may be on its way here from before the server heard that: nothing runs only when it has answered.
        hurried = asyncio.create_task(self._hurried.wait())
        for step, limit_s in ((connection.answered(), _ANSWER_S), (crew.idle(), self._drain_timeout_s)):
            waiting = asyncio.create_task(step)
            limit_s = max(min(limit_s, until - loop.time()), 0)
            await asyncio.wait({serving, hurried, waiting}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        hurried.cancel()
        if crew.running:
            log.warning("%d task(s) did not finish in time: they are given back", crew.running)
            await crew.abandon()
        if not serving.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.leave(), 10)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection | None]:
        """Connect, unless the worker is stopped first."""
        token = self._address.token
        encryption: dict[str, Any] = {} if self._ssl is None else {"ssl": self._ssl}
        connecting = asyncio.ensure_future(
            connect(
                self.url,
                additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                user_agent_header="celeriac",
                # Messages are small, and often on the machine itself.
                compression=None,
                # No proxy leads to this machine, whatever the environment says.
                proxy=None if self._address.loopback else True,
                ping_interval=self._heartbeat_s,
                ping_timeout=self._heartbeat_s,
                max_size=self._max_message_bytes,
                close_timeout=2,
                **encryption,
            ).__aenter__()
        )
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                yield None
                return
            async with await connecting as socket:
                yield socket
        finally:
            stopping.cancel()
            connecting.cancel()
            await asyncio.wait({stopping, connecting})


def _address(url: str | None, token: str | None) -> Address:
    """Read the API's address, also from the gateway's own."""
    if url is not None:
        scheme, separator, rest = url.partition("://")
        if separator and scheme in ("ws", "wss"):
            url = f"{'https' if scheme == 'wss' else 'http'}://{rest}"
        url = url.rstrip("/").removesuffix("/ws")
    return find_address(url, token)


def _said(body: bytes) -> str:
    """Return why the gateway refuses: of a problem document its detail, else the text itself, cut short."""
    text = body.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = str(json.loads(text)["detail"])
    return text[:300]
