"""Hand a file over to the task service through gRPC, and wait for the result.

    python examples/files/create_task.py /tmp/holiday.mkv --target 127.0.0.1:50050

Once the service has answered, the file belongs to it and is no longer at its path.
"""

from __future__ import annotations

import argparse
import os
import time

import grpc

from celeriac_proto.task import task_pb2, task_pb2_grpc


def main() -> None:
    """Create the task and follow it to its end."""
    parser = argparse.ArgumentParser(description="Hand a file over and wait for the result.")
    parser.add_argument("path")
    parser.add_argument("--target", default=f"127.0.0.1:{os.environ.get('TASK_GRPC_PORT', 50050)}")
    options = parser.parse_args()
    with grpc.insecure_channel(options.target) as channel:
        service = task_pb2_grpc.TaskServiceStub(channel)
        task_id = service.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=options.path)).task_id
        print("task", task_id)
        while True:
            answer = service.GetTaskStatus(task_pb2.GetTaskStatusRequest(task_id=task_id))
            status = task_pb2.TaskStatus.Name(answer.status)
            if status in ("COMPLETED", "FAILED"):
                print(status, answer.result_file_path or answer.error_message)
                return
            time.sleep(0.5)


if __name__ == "__main__":
    main()
