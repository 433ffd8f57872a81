"""The protocol file as a stranger uses it, and the code that is committed for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY

OURS = "from celeriac_proto.grpc_task.v1 import task_pb2 as ours, task_pb2_grpc as ours_grpc"
THEIRS = "from grpc_task.v1 import task_pb2 as theirs, task_pb2_grpc as theirs_grpc"


def python(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PYTHONPATH": str(path)},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the protocol compiled the way an executor's author does it."""
    out = tmp_path_factory.mktemp("stranger")
    done = python(
        "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'proto' / 'celeriac_proto'}", f"--python_out={out}",
        f"--grpc_python_out={out}", "grpc_task/v1/task.proto", path=out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("imports", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
def test_a_stranger_s_own_code_lives_in_one_process_with_ours(compiled: Path, imports: tuple[str, str]) -> None:
    check = (
        "sent = ours.ExecuteTaskRequest(task_id='1', payload={'a': [1]}, options={'timeout_ms': 5})\n"
        "got = theirs.ExecuteTaskRequest.FromString(sent.SerializeToString())\n"
        "assert got.options.timeout_ms == 5 and got.payload['a'][0] == 1\n"
        "assert ours_grpc.TaskExecutorServiceStub and theirs_grpc.TaskExecutorServiceServicer\n"
    )
    done = python("-c", "\n".join([*imports, check]), path=compiled)
    assert done.returncode == 0, done.stderr


def test_field_numbers_run_in_the_order_of_the_contract() -> None:
    from celeriac_proto.grpc_task.v1 import task_pb2

    assert task_pb2.DESCRIPTOR.name == "grpc_task/v1/task.proto"
    expected = {
        "ExecuteTaskRequest": ["task_id", "task_type", "payload", "metadata", "options"],
        "ExecuteTaskResponse": ["progress", "result", "error"],
        "Progress": ["task_id", "percentage", "stage", "message", "timestamp_ms"],
        "TaskResult": ["task_id", "status", "data", "duration_ms"],
        "ErrorDetail": ["code", "message", "retryable"],
        "CancelTaskResponse": ["success", "message"],
        "HealthCheckResponse": ["status", "message", "details"],
    }
    for message, names in expected.items():
        fields = task_pb2.DESCRIPTOR.message_types_by_name[message].fields
        assert [(field.name, field.number) for field in fields] == [(name, n) for n, name in enumerate(names, 1)]
    assert dict(task_pb2.TaskStatus.items()) == {
        "TASK_STATUS_UNSPECIFIED": 0, "TASK_STATUS_COMPLETED": 1, "TASK_STATUS_FAILED": 2, "TASK_STATUS_CANCELLED": 3,
    }  # fmt: skip
    assert dict(task_pb2.HealthStatus.items()) == {
        "HEALTH_STATUS_UNSPECIFIED": 0, "HEALTH_STATUS_HEALTHY": 1, "HEALTH_STATUS_UNHEALTHY": 2,
    }  # fmt: skip


def test_the_committed_code_is_what_the_protocol_file_gives() -> None:
    done = python(str(REPOSITORY / "tools" / "generate_proto.py"), "--check", path=REPOSITORY)
    assert done.returncode == 0, done.stderr


@pytest.mark.fresh_python
def test_neither_the_api_s_nor_the_worker_s_side_imports_grpc_before_the_first_task(tmp_path: Path) -> None:
    code = "import sys, celeriac.tasks.types.grpc_task, celeriac_tasks.grpc_task; sys.exit('grpc' in sys.modules)"
    assert python("-c", code, path=tmp_path).returncode == 0
