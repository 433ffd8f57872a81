"""A remote worker: connects, takes tasks, and connects again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import ssl as tls
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException

from celeriac import json_text
from celeriac.client.address import Address, find_address
from celeriac.errors import SettingsError, WorkerRefusedError
from celeriac.remote_worker import messages
from celeriac.remote_worker.backoff import REFUSED, RESTARTING, pause_s
from celeriac.remote_worker.connection import Connection
from celeriac.remote_worker.execution import Handler
from celeriac.remote_worker.running_tasks import RunningTasks
from celeriac.remote_worker.voice import be_heard, log, own_lines
from celeriac.terminal.task_lines import TaskLines

H = TypeVar("H", bound=Handler)

#: Answers to the handshake that a later attempt would not change.
_FINAL_ANSWERS: Final = frozenset({400, 401, 403, 404, 405, 426})
#: The exit code of a worker that the server refuses.
_WRONG_INPUT: Final = 2
#: How long the server may take to answer after the worker said that it leaves (seconds).
_ANSWER_S: Final = 5.0


class RemoteWorker:
    """Runs a handler for the tasks of a group. The program needs neither the store nor Celery.

    `url` is the address of the API (`http://…`, `https://…`) or of the gateway (`ws://…/ws`). By default the address
    is found as `celeriac.Client` finds it. The handler gets a `RemoteTask` and returns a value that can be written
    as JSON. A coroutine function runs in the event loop, a plain function in a thread. An exception fails the task:
    `SkipRetry` for good, any other by the retry policy of the task.

    It says on standard error when it connects, and shows each task that ends in one line; `quiet` leaves these out, and
    `task_lines` shows them elsewhere. If the program has set up logging, the logger `celeriac.remote_worker` is used.
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
        quiet: bool = False,
        task_lines: TaskLines | None = None,
    ) -> None:
        if concurrency < 1:
            raise SettingsError(f"concurrency must be at least 1, not {concurrency}")
        if isinstance(models, str):
            raise SettingsError(f"models must be a list of names, not the string {models!r}")
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
        self._quiet = quiet
        self._lines = task_lines
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def url(self) -> str:
        """The address that the worker connects to."""
        scheme, _, rest = self._address.url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws?group={quote(self._group, safe='')}"

    def handler(self, function: H) -> H:
        """Make a function the handler of this worker. Use it as a decorator."""
        self._handler = function
        return function

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (Ctrl-C). Running tasks finish, unless a second signal comes.

        If the server refuses this worker, say why on standard error and exit with code 2. Raises `RuntimeError` where
        an event loop runs already, as in a notebook: use `run_async` there.
        """
        if _in_a_loop():
            raise RuntimeError("an event loop runs here already, as in a notebook: use `await worker.run_async()`")
        try:
            asyncio.run(self._run_with_signals())
        except WorkerRefusedError as exc:
            sys.stderr.write(f"celeriac: {exc}\n")
            raise SystemExit(_WRONG_INPUT) from None

    async def run_async(self) -> None:
        """Work until `stop` is called or the coroutine is cancelled. Does not handle signals.

        Raises `WorkerRefusedError` if the server refuses this worker.
        """
        if self._handler is None:
            raise SettingsError(
                "this remote worker has no handler: pass one, or decorate a function with @worker.handler"
            )
        self._loop = asyncio.get_running_loop()
        be_heard()
        lines = self._lines or own_lines(quiet=self._quiet)
        tasks = RunningTasks(
            self._handler,
            concurrency=self._concurrency,
            models=self._models,
            name=self._name,
            limit=self._max_message_bytes,
            group=self._group,
            lines=lines,
        )
        try:
            await self._work(tasks)
        finally:
            self._loop = None
            await tasks.abandon()
            lines.close()

    def stop(self) -> None:
        """Take no more tasks, let running ones finish for up to `drain_timeout_s`, and end. Any thread may call it."""
        if self._loop is None:
            self._stopping.set()
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not possible on Windows, and not outside the main thread: there Ctrl-C ends the worker at once.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._signalled)
        await self.run_async()

    def _signalled(self) -> None:
        if self._stopping.is_set():
            self._hurried.set()
        else:
            log.info("stopping: running tasks may finish; send the signal again to stop at once")
            self._stopping.set()

    async def _work(self, tasks: RunningTasks) -> None:
        failures = 0
        while not self._stopping.is_set():
            code, greeted = await self._connect_and_serve(tasks)
            failures = 0 if greeted else failures + 1
            if self._stopping.is_set():
                return
            longest_s = 1.0 if code in RESTARTING else self._reconnect_max_s
            pause = pause_s(failures, code, longest_s=longest_s, random=random.random())  # noqa: S311 - spreads load
            log.info("connecting to %s again in %.1f s", self.url, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _connect_and_serve(self, tasks: RunningTasks) -> tuple[int | None, bool]:
        """Serve one connection; return its close code, and whether the server greeted this worker."""
        try:
            async with self._connected() as socket:
                if socket is None:
                    return None, False
                connection = Connection(socket, tasks)
                await self._serve(connection, tasks)
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
            log.info("disconnected (%s)", "the connection broke" if code is None else f"{code} {reason}".strip())
        return code, bool(connection.worker_id)

    async def _serve(self, connection: Connection, tasks: RunningTasks) -> None:
        serving = asyncio.create_task(connection.serve(), name="remote-worker-connection")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await self._drain(connection, tasks, serving)
            tasks.lost(connection, await serving)
        finally:
            stopping.cancel()
            serving.cancel()
            await asyncio.wait({serving, stopping})

    async def _drain(self, connection: Connection, tasks: RunningTasks, serving: asyncio.Task[object]) -> None:
        """Let running tasks finish, as far as there is time, and close the connection."""
        connection.draining = True
        connection.outbox.put(messages.drain())
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_timeout_s
        # A task that the server sent before it received that may still arrive, but not after the server has answered.
        hurried = asyncio.create_task(self._hurried.wait())
        for step, limit_s in ((connection.answered(), _ANSWER_S), (tasks.idle(), self._drain_timeout_s)):
            waiting = asyncio.create_task(step)
            limit_s = max(min(limit_s, until - loop.time()), 0)
            await asyncio.wait({serving, hurried, waiting}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        hurried.cancel()
        if tasks.count:
            log.warning("%d task(s) did not finish in time and are given back", tasks.count)
            await tasks.abandon()
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
                # Messages are small, and the server is often on this machine.
                compression=None,
                # A proxy of the environment leads to the outside world, not to this machine.
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


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _address(url: str | None, token: str | None) -> Address:
    """Return the address of the API; `url` may be that of the gateway."""
    if url is not None:
        scheme, separator, rest = url.partition("://")
        if separator and scheme in ("ws", "wss"):
            url = f"{'https' if scheme == 'wss' else 'http'}://{rest}"
        url = url.rstrip("/").removesuffix("/ws")
    return find_address(url, token)


def _said(body: bytes) -> str:
    """Return why the gateway refuses: the detail of a problem document, else the text itself, cut short."""
    text = body.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = str(json_text.read(text)["detail"])
    return text[:300]
