"""The task type `grpc_task`: its work is done by somebody's own gRPC service.

handler.py    finds the service of a task and hands the task to it; imports no gRPC until then
service.py    one executor as this process sees it: channel, health, the calls
channel.py    how a channel is opened and what every call carries
health.py     the cached verdict on an executor, one check for all who ask
outcome.py    what an answer or a status means for the task
progress.py   from the stream to the context, throttled
struct_json.py    `google.protobuf.Struct` from and to JSON values
"""

from celeriac_tasks.grpc_task.handler import GrpcTaskHandler, install

__all__ = ["GrpcTaskHandler", "install"]
