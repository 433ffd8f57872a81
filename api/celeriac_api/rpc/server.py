"""The gRPC server: the task service, health and reflection."""

from __future__ import annotations

import logging
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from celeriac.errors import SettingsError
from celeriac.files.service import Files
from celeriac.settings import ServerSettings, ServerTlsSettings
from celeriac.tasks.service import Tasks
from celeriac.up.ports import with_port
from celeriac_api.rpc import task_service
from celeriac_api.rpc.access import AccessInterceptor
from celeriac_proto.task import task_pb2_grpc

log = logging.getLogger(__name__)

#: How long calls may go on after the process was asked to stop (seconds).
_GRACE_S: Final = 2.0

#: How long calls may go on when their connection has reached its age (seconds).
_AGE_GRACE_S: Final = 60


class RpcServer:
    """Serves gRPC on `host` and `port`. Port 0 takes a free one, and `port` has it after the start."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        files: Files,
        tasks: Tasks,
        interceptor: AccessInterceptor,
        limits: ServerSettings,
        tls: ServerTlsSettings | None = None,
    ) -> None:
        self._limits = limits
        self._interceptor = interceptor
        self._tls = tls
        self._files = files
        self._tasks = tasks
        self._host = host
        self.port = port
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()

    async def start(self) -> None:
        """Bind and serve; raises `SettingsError` if the port is taken."""
        server = grpc.aio.server(options=_options(self._limits), interceptors=[self._interceptor])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        service = task_service.TaskService(files=self._files, tasks=self._tasks)
        task_pb2_grpc.add_TaskServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        names = [task_service.NAME, health_name, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        try:
            address = with_port(self._host, self.port)
            if self._tls is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, _credentials(self._tls))
        except RuntimeError as exc:
            raise SettingsError(
                f"cannot serve gRPC on {address}: is the port taken? Stop the other program,"
                " or choose another port with --grpc-port"
            ) from exc
        await server.start()
        for name in ("", task_service.NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        log.info("gRPC on %s", with_port(self._host, self.port))

    async def stop(self) -> None:
        """Refuse new calls, let running ones end, and close. Idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await self._health.enter_graceful_shutdown()
        await server.stop(_GRACE_S)


def _options(limits: ServerSettings) -> list[tuple[str, int]]:
    return [
        # Otherwise a second process would silently share the port, and a taken port would not be an error.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", limits.max_grpc_streams),
        ("grpc.max_receive_message_length", limits.max_grpc_message_bytes),
        ("grpc.max_connection_idle_ms", round(limits.grpc_idle * 1000)),
        ("grpc.max_connection_age_ms", round(limits.grpc_age * 1000)),
        ("grpc.max_connection_age_grace_ms", _AGE_GRACE_S * 1000),
    ]


def _credentials(tls: ServerTlsSettings) -> grpc.ServerCredentials:
    try:
        key, certificate = tls.key_file.read_bytes(), tls.cert_file.read_bytes()
        authorities = None if tls.client_ca_file is None else tls.client_ca_file.read_bytes()
    except OSError as exc:
        raise SettingsError(f"access.tls: cannot read {exc.filename}: {exc.strerror}") from exc
    return grpc.ssl_server_credentials([(key, certificate)], authorities, authorities is not None)
