"""The task type `grpc_task`: its work is done by somebody's own gRPC service.

handler.py    finds the service of a task and hands the task to it; imports no gRPC until then
service.py    one executor as this process sees it: channel, health, the calls
channel.py    how a channel is opened and what every call carries
health.py     the cached verdict on an executor, one check for all who ask
outcome.py    what an answer or a status means for the task
progress.py   from the stream to the context, throttled
struct_json.py    `google.protobuf.Struct` from and to JSON values
"""

import os

# Before gRPC is imported: with its fork handlers, a child that is started while another thread calls into gRPC ends
# between fork and exec. What a worker starts is always another program (a file processor, say) and needs none of them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from celeriac_tasks.grpc_task.handler import GrpcTaskHandler, install

__all__ = ["GrpcTaskHandler", "install"]
