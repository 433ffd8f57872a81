"""The gRPC `TaskService` (docs/task-service.md): takes a file over as a task, and answers with the task's state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from celeriac.errors import InvalidSubmissionError, TaskNotFoundError, Violation
from celeriac.files.service import Files
from celeriac.model import Status, Task, rfc3339
from celeriac.tasks.service import Tasks
from celeriac_api.rpc.access import caller
from celeriac_api.rpc.failures import abort
from celeriac_proto.task import task_pb2, task_pb2_grpc

NAME: Final = task_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name

#: The names that the service has for the states of the life cycle.
_STATUS: Final = {
    Status.SCHEDULED: task_pb2.PENDING,
    Status.PENDING: task_pb2.PENDING,
    Status.RETRYING: task_pb2.PENDING,
    Status.WAITING: task_pb2.PENDING,
    Status.PROCESSING: task_pb2.PROCESSING,
    Status.COMPLETED: task_pb2.COMPLETED,
    Status.FAILED: task_pb2.FAILED,
    Status.CANCELLED: task_pb2.FAILED,
}


class TaskService(task_pb2_grpc.TaskServiceServicer):
    """Translates calls for the services of files and tasks, and their errors for gRPC."""

    def __init__(self, *, files: Files, tasks: Tasks) -> None:
        self._files = files
        self._tasks = tasks

    async def CreateTask(self, request: task_pb2.CreateTaskRequest, context: Any) -> task_pb2.CreateTaskResponse:  # noqa: N802 - gRPC's spelling
        """Take over the file; see `Files.create`."""
        async with _statuses(context):
            submitted = await self._files.create(request.temp_file_path, caller=caller())
        return task_pb2.CreateTaskResponse(task_id=submitted.task_id)

    async def GetTaskStatus(  # noqa: N802 - gRPC's spelling
        self, request: task_pb2.GetTaskStatusRequest, context: Any
    ) -> task_pb2.GetTaskStatusResponse:
        """Answer with a task's state, for tasks of any origin and type."""
        async with _statuses(context):
            if not request.task_id:
                raise InvalidSubmissionError([Violation("task_id", "is empty")])
            task = await self._tasks.find(request.task_id)
            if not caller().sees(task.user_id):
                raise TaskNotFoundError(request.task_id)
        return state_of(task)


def state_of(task: Task) -> task_pb2.GetTaskStatusResponse:
    """Return a task's record as the service shows it."""
    status = _STATUS[task.status]
    failed = status == task_pb2.FAILED
    return task_pb2.GetTaskStatusResponse(
        status=status,
        result_file_path=(task.result_file_path or "") if status == task_pb2.COMPLETED else "",
        error_message=(task.error.message if task.error is not None else task.status.wire) if failed else "",
        created_at=rfc3339(task.created_at),
        updated_at=rfc3339(task.updated_at),
    )


@asynccontextmanager
async def _statuses(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End the call with the status of the error that is raised inside."""
    try:
        yield
    except Exception as exc:
        await abort(context, exc)
