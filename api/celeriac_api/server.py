"""The API process: HTTP with uvicorn, and gRPC beside it, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from ipaddress import ip_network
from typing import Any, Final

import uvicorn
import uvloop

from celeriac.errors import CeleriacError, SettingsError
from celeriac.execution.last_moment import ENOUGH_S, end_within
from celeriac.logs import writes_json
from celeriac.settings import ServerTlsSettings, Settings
from celeriac.terminal.task_lines import lines_on
from celeriac.up.heartbeat import beating
from celeriac.up.ports import with_port
from celeriac_api.app import create_app
from celeriac_api.front_door import FrontDoor
from celeriac_api.http.hot_protocol import HotProtocol
from celeriac_api.http.http_protocol import HttpProtocol
from celeriac_api.http.websocket_protocol import WebSocketProtocol
from celeriac_api.parts import STATE, Parts
from celeriac_api.routes.dispatch.hot_call import HotCalls
from celeriac_api.routes.tasks.hot_submit import HotSubmissions
from celeriac_api.rpc.process import serving_rpc

log = logging.getLogger(__name__)

#: How long open requests may go on after the process was asked to stop (seconds).
_GRACE_S: Final = 3
_BACKLOG: Final = 2048
#: New objects between two garbage collections. A request leaves no reference cycles behind, and with the default of
#: the interpreter (700) collecting takes a tenth of the CPU time.
_GC_THRESHOLD: Final = 20_000


def main(settings: Settings, options: Mapping[str, Any]) -> int | None:
    """Serve until SIGTERM or SIGINT; returns the exit code. Standard error says if the port is taken.

    Raises `SettingsError` if the modules of task types cannot be imported.
    """
    lines = lines_on(sys.stderr, most=settings.task_lines, as_json=writes_json(settings.log_format))
    app = create_app(settings, lines)
    try:
        listener = bind(settings.host, settings.port)
        # The objects made so far live until the end, so the garbage collector need not look at them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD, 10, 10)
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(app, settings, listener))
    except CeleriacError as exc:
        print(f"celeriac api: {exc}", file=sys.stderr)
        return 1
    finally:
        lines.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises `SettingsError`, which says what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as exc:
        raise SettingsError(f"cannot serve HTTP on host {host!r}: {exc}") from exc
    listener = socket.socket(family, kind, protocol)
    try:
        # So that a restart need not wait until the connections of the previous process time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Only listening shows whether another program listens there.
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise SettingsError(
            f"cannot serve HTTP on {with_port(host, port)}: {exc.strerror}. Stop the other program,"
            " or choose another port with --port"
        ) from exc
    return listener


async def serve(app: FrontDoor, settings: Settings, listener: socket.socket) -> int:
    """Serve HTTP on `listener` and gRPC on its port until a signal arrives; returns the exit code.

    Raises `StoreUnavailableError` and `SettingsError` if it cannot start.
    """
    server = ApiServer(app, settings)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.ask_to_stop)
    # Started before the application, so that an unavailable store gives one clear line instead of a traceback.
    async with beating(), serving_rpc(settings):
        try:
            log.info("HTTP on %s", with_port(*listener.getsockname()[:2]))
            await server.serve(sockets=[listener])
        except SystemExit:
            # This is how uvicorn says that the application did not start. It has logged why.
            return 1
    return 0


class ApiServer(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve` and does not wait for event streams when it stops."""

    def __init__(self, app: FrontDoor, settings: Settings) -> None:
        self._access = settings.access
        self._app = app
        self._end_within_s = settings.dispatch.drain_grace + _GRACE_S + ENOUGH_S
        # Requests that are logged go the usual way.
        logged = settings.log_level == "debug"
        hot = (
            ()
            if logged
            else tuple(
                route(app.guard, app.open, settings.server, max_body_bytes=settings.max_body_bytes)
                for route in (HotSubmissions, HotCalls)
            )
        )
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=partial(HotProtocol, hot=hot, limits=settings.server),  # type: ignore[arg-type]  # it is called only
                ws=partial(WebSocketProtocol, limits=settings.server),  # type: ignore[arg-type]
                ws_max_size=settings.dispatch.max_frame_bytes,
                ws_ping_interval=settings.dispatch.ping_interval,
                # The endpoints decide which client is gone: they hear the pongs, and know who is busy.
                ws_ping_timeout=None,
                # Messages are small: compressing costs more than it saves, and memory for each connection.
                ws_per_message_deflate=False,
                **_tls(settings.access.tls),
                lifespan="on",
                log_config=None,
                access_log=logged,
                server_header=False,
                # Only the headers of the proxies that the settings name are trusted.
                proxy_headers=bool(settings.access.trusted_proxies),
                forwarded_allow_ips=_proxies(settings.access.trusted_proxies),
                backlog=_BACKLOG,
                timeout_keep_alive=round(settings.keep_alive),
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    async def on_tick(self, counter: int) -> bool:
        """Disconnect slow clients once in a while: one that sends a byte now and then costs as much as any other."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    slow = connection.is_slow(now, head_s=self._access.header_timeout, body_s=self._access.body_timeout)
                    # Only if it was slow twice in a row: after a busy moment of this process, its data is read first.
                    if slow and connection.looked_slow:
                        connection.transport.abort()
                    connection.looked_slow = slow
        return await super().on_tick(counter)

    def ask_to_stop(self) -> None:
        """Stop soon, or at once if asked again."""
        if not self.should_exit:
            end_within(self._end_within_s)
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Do not handle signals: `serve` does."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let remote workers finish, end event streams and waits, which would last as long as their tasks, and stop."""
        self._app.stopping = True
        for listening in self.servers:
            listening.close()
        parts: Parts | None = self.lifespan.state.get(STATE)
        if parts is not None:
            await parts.gateway.drain()
            parts.hub.close_streams()
            parts.activity.close_streams()
            parts.ends.let_go()
        # When the server cancels the tasks of the others.
        asyncio.get_running_loop().call_later(_GRACE_S + 0.1, self._give_up)
        await super().shutdown(sockets)

    def _give_up(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, HotProtocol):
                connection.give_up()


def _proxies(proxies: Sequence[str]) -> list[str]:
    """Return the networks of proxies, also in the form in which a server on `::` sees callers over IPv4."""
    networks = [ip_network(proxy) for proxy in proxies]
    mapped = [f"::ffff:{net.network_address}/{96 + net.prefixlen}" for net in networks if net.version == 4]
    return [*map(str, networks), *mapped]


def _tls(tls: ServerTlsSettings | None) -> dict[str, Any]:
    """Return uvicorn's options for TLS; raises `SettingsError` for files that cannot be read."""
    if tls is None:
        return {}
    for file in (tls.cert_file, tls.key_file, *([tls.client_ca_file] if tls.client_ca_file else [])):
        if not file.is_file():
            raise SettingsError(f"access.tls: there is no file {file}")
    options: dict[str, Any] = {"ssl_certfile": str(tls.cert_file), "ssl_keyfile": str(tls.key_file)}
    if tls.client_ca_file is not None:
        options |= {"ssl_ca_certs": str(tls.client_ca_file), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options
