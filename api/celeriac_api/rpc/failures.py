"""Errors as gRPC statuses, from the one table of all front doors, with details that programs can read."""

from __future__ import annotations

import logging
from typing import Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from celeriac.errors import CeleriacError, FileNotAllowedError, InvalidSubmissionError, NotReplicatedError, Violation
from celeriac_api.http.problems import retry_after_of, row_of

log = logging.getLogger(__name__)

#: The domain of the reasons in `ErrorInfo`.
DOMAIN: Final = "celeriac"
#: Where gRPC clients look for `google.rpc.Status` (gRPC's richer error model).
_DETAILS_KEY: Final = "grpc-status-details-bin"
#: The longest text of an error (characters), and how many fields one names.
_LONGEST_TEXT: Final = 500
_MOST_VIOLATIONS: Final = 10
_INTERNAL: Final = "the server has an internal error; its log says more"


async def abort(context: grpc.aio.ServicerContext[Message, Message], error: Exception) -> NoReturn:
    """End the call with the status of `error`."""
    row = row_of(error)
    code = grpc.StatusCode[row.grpc]
    if not isinstance(error, CeleriacError) or code is grpc.StatusCode.INTERNAL:
        log.error("a call failed unexpectedly", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
    text = _brief(str(error))
    details = Status(code=code.value[0], message=text, details=[_packed(part) for part in _details(error)])
    await context.abort(code, text, ((_DETAILS_KEY, details.SerializeToString()),))
    raise AssertionError("abort raises")


def _brief(text: str) -> str:
    """Return a text short enough for trailers: a client drops longer ones, and the status with them."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT // 2]}…{text[-_LONGEST_TEXT // 2 :]}"


def _details(error: CeleriacError) -> list[Message]:
    parts: list[Message] = [ErrorInfo(reason=error.code.upper(), domain=DOMAIN, metadata=_ids(error))]
    if violations := _violations(error):
        fields = [
            BadRequest.FieldViolation(field=v.field, description=_brief(v.message))
            for v in violations[:_MOST_VIOLATIONS]
        ]
        parts.append(BadRequest(field_violations=fields))
    if (retry_after_s := retry_after_of(error)) is not None:
        parts.append(RetryInfo(retry_delay=Duration(seconds=retry_after_s)))
    return parts


def _ids(error: CeleriacError) -> dict[str, str]:
    """Return what a submission is stored as that too few replicas have."""
    return {"task_id": error.task_id} if isinstance(error, NotReplicatedError) and error.task_id else {}


def _violations(error: CeleriacError) -> list[Violation]:
    if isinstance(error, FileNotAllowedError):
        return [Violation("temp_file_path", str(error))]
    return list(error.violations) if isinstance(error, InvalidSubmissionError) else []


def _packed(part: Message) -> Any:
    packed = Any()
    packed.Pack(part)
    return packed
