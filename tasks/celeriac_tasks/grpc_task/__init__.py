"""The task type `grpc_task`: a gRPC service of the user's (the executor) does the work.

handler.py      finds the service of a task and hands the task to it; imports gRPC only then
service.py      one executor as this process sees it: channel, health, calls
channel.py      opens a channel and builds the metadata of every call
health.py       the cached health of an executor, with one check for all tasks
outcome.py      turns an answer or a status into the task's result or error
progress.py     relays progress from the stream to the context, throttled
start_gate.py   spreads a burst of calls
struct_json.py  converts `google.protobuf.Struct` from and to JSON values
"""

import os

# Set before gRPC is imported. With gRPC's fork handlers, a child dies between fork and exec if it is started while
# another thread calls into gRPC. A worker only starts other programs (a file processor, for example), which do not
# need these handlers.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from celeriac_tasks.grpc_task.handler import GrpcTaskHandler, install

__all__ = ["GrpcTaskHandler", "install"]
