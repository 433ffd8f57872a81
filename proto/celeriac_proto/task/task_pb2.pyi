from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PENDING: _ClassVar[TaskStatus]
    PROCESSING: _ClassVar[TaskStatus]
    COMPLETED: _ClassVar[TaskStatus]
    FAILED: _ClassVar[TaskStatus]
PENDING: TaskStatus
PROCESSING: TaskStatus
COMPLETED: TaskStatus
FAILED: TaskStatus

class CreateTaskRequest(_message.Message):
    __slots__ = ("temp_file_path",)
    TEMP_FILE_PATH_FIELD_NUMBER: _ClassVar[int]
    temp_file_path: str
    def __init__(self, temp_file_path: _Optional[str] = ...) -> None: ...

class CreateTaskResponse(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class GetTaskStatusRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class GetTaskStatusResponse(_message.Message):
    __slots__ = ("status", "result_file_path", "error_message", "created_at", "updated_at")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FILE_PATH_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    status: TaskStatus
    result_file_path: str
    error_message: str
    created_at: str
    updated_at: str
    def __init__(self, status: _Optional[_Union[TaskStatus, str]] = ..., result_file_path: _Optional[str] = ..., error_message: _Optional[str] = ..., created_at: _Optional[str] = ..., updated_at: _Optional[str] = ...) -> None: ...
