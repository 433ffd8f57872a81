"""The handler of `grpc_task`: finds a task's service and runs the task there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celeriac.errors import SkipRetry
from celeriac.handlers.context import Context
from celeriac.settings import GrpcServices, Settings
from celeriac.tasks.registry import Registry
from celeriac.tasks.types.grpc_task import GRPC_TASK, GrpcTaskPayload, service_problem

if TYPE_CHECKING:
    from celeriac_tasks.grpc_task.service import ExecutorService


class GrpcTaskHandler:
    """Runs `grpc_task` tasks; one per process, used from one event loop.

    It connects to a service when a task first names it, and imports gRPC only then: a process that has used gRPC
    must not fork any more, and a process that does not need gRPC starts faster.
    """

    def __init__(self, services: GrpcServices, *, max_result_bytes: int, progress_buffer: int) -> None:
        self._configured = services
        self._max_result_bytes = max_result_bytes
        self._progress_buffer = progress_buffer
        self._services: dict[str, ExecutorService] = {}

    async def __call__(self, payload: GrpcTaskPayload, ctx: Context) -> dict[str, Any]:
        """Run the service's method and return its `TaskResult.data`; raises a `TaskError` if it fails."""
        if problem := service_problem(payload.service, self._configured):
            code, message = problem
            raise SkipRetry(message, code=code)
        return await self._service(payload.service).execute(payload, ctx)

    async def close(self) -> None:
        """Close all channels and drop the calls that still run."""
        services, self._services = self._services, {}
        for service in services.values():
            await service.close()

    def _service(self, name: str) -> ExecutorService:
        service = self._services.get(name)
        if service is None:
            from celeriac_tasks.grpc_task.service import ExecutorService

            resolved = self._configured.resolve(name)
            if resolved is None:
                raise SkipRetry(f"there is no gRPC service {name!r}", code="unknown_service")
            service = self._services[name] = ExecutorService(
                name=name,
                service=resolved,
                max_result_bytes=self._max_result_bytes,
                progress_buffer=self._progress_buffer,
            )
        return service


def install(settings: Settings, registry: Registry) -> GrpcTaskHandler:
    """Give `grpc_task` its handler in `registry` and return it; the type's `close` closes it."""
    handler = GrpcTaskHandler(
        settings.grpc_services,
        max_result_bytes=settings.max_result_bytes,
        progress_buffer=settings.worker.progress_buffer,
    )
    registry.add(replace(GRPC_TASK, handler=handler.__call__, close=handler.close))
    return handler
