"""Resumable uploads: tus 1.0.0 with creation, creation-with-upload, expiration, checksum and termination.

<https://tus.io/protocols/resumable-upload>. A finished upload is a file like any other: its id is the last
part of its URL.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, Final

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from celeriac.errors import CeleriacError, ChecksumMismatchError, FileBusyError, FileTypeRefusedError
from celeriac.files.uploads import UploadInfo, UploadWriter, parse_metadata
from celeriac_api.access.caller import principal_in
from celeriac_api.access.rights import SUBMIT
from celeriac_api.http.bodies import RefusedBody
from celeriac_api.http.problems import RequestError, Row, instance_of, problem, row_of
from celeriac_api.openapi.problem_examples import FILE_ID
from celeriac_api.openapi.responses import Responses, header, location, problems, request_header
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routes.files.file_body import write_stream
from celeriac_api.routes.files.files import FileId
from celeriac_api.routing import Router

PATH: Final = "/api/v1/uploads"
VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS: Final = ("sha1", "sha256", "md5")
CHUNK_TYPE: Final = "application/offset+octet-stream"
_HEADERS: Final = {"Tus-Resumable": VERSION, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MAX_METADATA: Final = 8192

router = Router(prefix=PATH, tags=["uploads"], streams_bodies=True)


class _OffsetError(CeleriacError):
    """The client continues at another offset than that of the upload."""

    code = "wrong_offset"


#: The errors for which the protocol has other statuses than the rest of this API.
_ROWS: Final = {
    ChecksumMismatchError.code: Row(460, "Checksum mismatch", "INVALID_ARGUMENT", 1008),
    FileBusyError.code: Row(423, "Locked", "ABORTED", 1013),
}

_RESUMABLE: Final = {"Tus-Resumable": header("The protocol's version.", example=VERSION)}
_OFFSET: Final = header("How much has arrived (bytes), and so where to continue.", "integer", 1048576)
_EXPIRES: Final = header("When the upload is removed if no more arrives.", example="Fri, 01 Feb 2030 08:00:00 GMT")
_PLACE: Final = {**_RESUMABLE, "Upload-Offset": _OFFSET, "Upload-Expires": _EXPIRES}
_LENGTH: Final = "Size of the whole file (bytes)."
_METADATA: Final = "Names with their values in base64: `filename`, `filetype`."
_CHUNK: Final = {
    "requestBody": {"content": {CHUNK_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
}
_ASKED_VERSION: Final = request_header(
    "Tus-Resumable", "The protocol's version.", required=True, example=VERSION, pattern="^1[.]0[.]0$"
)
_ASKED_CHECKSUM: Final = request_header(
    "Upload-Checksum",
    "The digest of the chunk: sha1, sha256 or md5, in base64.",
    example="sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
)


def _tus_problems(*causes: str | CeleriacError) -> Responses:
    """Return `responses` with the statuses and the header of the protocol."""
    found = problems("invalid_header", "unsupported_version", *causes, rows=_ROWS)
    for answer in found.values():
        answer["headers"] = {**answer.get("headers", {}), **_RESUMABLE}
    return found


Handler = Callable[..., Awaitable[Response]]


def _in_tus_terms(handler: Handler) -> Handler:
    """Check the version of the protocol, and answer errors with its statuses and headers."""

    @functools.wraps(handler)
    async def answer(request: Request, *args: Any, **kwargs: Any) -> Response:
        try:
            if request.headers.get("tus-resumable") != VERSION:
                raise RequestError("unsupported_version", f"send the header Tus-Resumable: {VERSION}")
            return await handler(request, *args, **kwargs)
        except ClientDisconnect:
            return Response(status_code=400, headers=_HEADERS)
        except CeleriacError as exc:
            row = _ROWS.get(exc.code) or row_of(exc)
            headers = {**_HEADERS, **({"Tus-Version": VERSION} if row.http == 412 else {})}
            violations = exc.violations if isinstance(exc, RequestError) else ()
            refusal = problem(exc.code, row, str(exc), instance_of(request.scope), violations, headers=headers)
            return RefusedBody(refusal)

    return answer


@router.options(
    "",
    access=SUBMIT,
    summary="What the server supports",
    description=f"tus {VERSION}: the extensions, the largest upload, the digests.",
    status_code=204,
    response_description="The answer is in the headers.",
    responses={
        204: {
            "headers": {
                **_RESUMABLE,
                "Tus-Version": header("The versions of the protocol.", example=VERSION),
                "Tus-Extension": header("The extensions of the protocol.", example=EXTENSIONS),
                "Tus-Max-Size": header("The largest upload (bytes).", "integer", 21474836480),
                "Tus-Checksum-Algorithm": header("The digests.", example=",".join(ALGORITHMS)),
            }
        }
    },
)
@router.options("/{file_id}", access=SUBMIT, include_in_schema=False, status_code=204)
async def read_upload_options(parts: PartsOf) -> Response:
    """Answer with versions and extensions."""
    return Response(
        status_code=204,
        headers={
            **_HEADERS,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(parts.settings.files.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


@router.post(
    "",
    access=SUBMIT,
    summary="Begin a resumable upload",
    description=f"tus {VERSION}: `Upload-Length`, `Upload-Metadata` (`filename`, `filetype`). The body may be the "
    "first chunk.",
    status_code=201,
    response_class=Response,
    response_description="The upload can begin. Nothing or the first chunk has arrived.",
    responses={
        201: {"headers": {**location("the upload", f"{PATH}/{FILE_ID}"), **_PLACE}},
        **_tus_problems(
            "too_large",
            FileTypeRefusedError("uploads of type text/html are not accepted; use one of: video/*, image/*"),
            "checksum_mismatch",
            "file_busy",
            "storage_full",
        ),
    },
    openapi_extra={
        "parameters": [
            _ASKED_VERSION,
            request_header("Upload-Length", _LENGTH, required=True, example="10485760", pattern="^[0-9]{1,18}$"),
            request_header("Upload-Metadata", _METADATA, example="filename Y2xpcC5tcDQ=,filetype dmlkZW8vbXA0"),
            _ASKED_CHECKSUM,
        ],
        **_CHUNK,
    },
)
@_in_tus_terms
async def create_upload(request: Request, parts: PartsOf) -> Response:
    """Begin the upload, and store its first chunk if the body has one."""
    length = _number(request, "upload-length")
    metadata = request.headers.get("upload-metadata", "")
    names = _metadata(metadata)
    name = names.get("filename") or names.get("name") or "file"
    kind = names.get("filetype") or names.get("type") or ""
    area = parts.files.uploads
    owner = principal_in(request.scope).user_id

    def begin() -> UploadWriter:
        info: UploadInfo = area.begin(
            name=name, media_type=kind, length=length, metadata=metadata, resumable=True, owner=owner
        )
        return area.open(info.file_id)

    writer = await parts.files.run(begin)
    location = f"{request.scope.get('root_path', '')}{PATH}/{writer.info.file_id}"
    if _chunk_follows(request):
        await _append(request, parts, writer)
    elif length == 0:
        await parts.files.stream(writer.finish)
    offset = writer.offset
    writer.close()
    return Response(status_code=201, headers={**_state(parts, writer.info, offset), "Location": location})


@router.head(
    "/{file_id}",
    access=SUBMIT,
    summary="How far an upload has come",
    description=f"tus {VERSION}: the offset to continue at, and the metadata. The answer is in the headers.",
    response_class=Response,
    response_description="The answer is in the headers.",
    responses={
        200: {
            "headers": {
                **_PLACE,
                "Upload-Length": header(_LENGTH, "integer", 10485760),
                "Upload-Metadata": header(_METADATA, example="filename Y2xpcC5tcDQ="),
            }
        },
        **_tus_problems("file_not_found"),
    },
    openapi_extra={"parameters": [_ASKED_VERSION]},
)
@_in_tus_terms
async def read_upload_offset(request: Request, file_id: FileId, parts: PartsOf) -> Response:
    """Answer with the offset to continue at."""
    area = parts.files.uploads
    offset = await parts.files.run(area.offset, file_id)
    info = await parts.files.run(area.info, file_id)
    headers = _state(parts, info, offset)
    headers["Upload-Length"] = str(info.length)
    if info.metadata:
        headers["Upload-Metadata"] = info.metadata
    return Response(status_code=200, headers=headers)


@router.patch(
    "/{file_id}",
    access=SUBMIT,
    summary="Continue an upload",
    description=f"tus {VERSION}: `Upload-Offset`, a body of {CHUNK_TYPE}, and optionally `Upload-Checksum`.",
    status_code=204,
    response_description="The chunk is stored.",
    responses={
        204: {"headers": _PLACE},
        **_tus_problems(
            "file_not_found",
            "wrong_offset",
            "too_large",
            RequestError("unsupported_media_type", f"a chunk is {CHUNK_TYPE}"),
            "file_busy",
            "checksum_mismatch",
            "storage_full",
        ),
    },
    openapi_extra={
        "parameters": [
            _ASKED_VERSION,
            request_header(
                "Upload-Offset",
                "Where the chunk belongs: what has arrived so far (bytes).",
                required=True,
                example="1048576",
                pattern="^[0-9]{1,18}$",
            ),
            _ASKED_CHECKSUM,
        ],
        "requestBody": {**_CHUNK["requestBody"], "required": True},
    },
)
@_in_tus_terms
async def append_to_upload(request: Request, file_id: FileId, parts: PartsOf) -> Response:
    """Store a chunk."""
    offset = _number(request, "upload-offset")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CHUNK_TYPE:
        raise RequestError("unsupported_media_type", f"a chunk is {CHUNK_TYPE}")
    area = parts.files.uploads
    writer = await parts.files.run(area.open, file_id)
    try:
        if writer.offset != offset:
            raise _OffsetError(f"the upload is at {writer.offset}, not at {offset}")
        await _append(request, parts, writer)
    finally:
        writer.close()
    return Response(status_code=204, headers=_state(parts, writer.info, writer.offset))


@router.delete(
    "/{file_id}",
    access=SUBMIT,
    summary="Give up an upload",
    description=f"tus {VERSION}: removes what has arrived.",
    status_code=204,
    response_description="It is gone.",
    responses={204: {"headers": _RESUMABLE}, **_tus_problems("file_not_found", "file_busy")},
    openapi_extra={"parameters": [_ASKED_VERSION]},
)
@_in_tus_terms
async def drop_upload(request: Request, file_id: FileId, parts: PartsOf) -> Response:
    """Remove the upload."""
    await parts.files.run(parts.files.uploads.discard, file_id)
    return Response(status_code=204, headers=_HEADERS)


async def _append(request: Request, parts: Parts, writer: UploadWriter) -> None:
    """Append the body to the upload, and finish it if it is complete. The writer is closed in any case."""
    intake = parts.files
    checksum = _checksum(request)
    try:
        if checksum is None:
            await write_stream(intake, writer, request.stream())
        else:
            await intake.stream(writer.begin_chunk, checksum[0])
            try:
                await write_stream(intake, writer, request.stream())
            except BaseException:
                writer.end_chunk(None)
                raise
            await intake.stream(writer.end_chunk, checksum[1])
        if writer.offset == writer.info.length:
            await intake.stream(writer.finish)
    finally:
        writer.close()


def _state(parts: Parts, info: UploadInfo, offset: int) -> dict[str, str]:
    headers = {**_HEADERS, "Upload-Offset": str(offset)}
    if offset != info.length:
        area = parts.files.uploads
        gone_at = area.last_touched_s(info.file_id) + area.life_s(info, offset)
        headers["Upload-Expires"] = formatdate(gone_at, usegmt=True)
    return headers


def _chunk_follows(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == CHUNK_TYPE


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        title = name.title()
        raise RequestError("invalid_header", f"{title} must be a number of bytes (it cannot be deferred)")
    return int(text)


def _checksum(request: Request) -> tuple[str, bytes] | None:
    text = request.headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm.lower() not in ALGORITHMS:
        raise RequestError("invalid_header", f"Upload-Checksum can be one of {', '.join(ALGORITHMS)}")
    try:
        return algorithm.lower(), base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise RequestError("invalid_header", "the digest in Upload-Checksum is not base64") from exc


def _metadata(text: str) -> dict[str, str]:
    if len(text) > _MAX_METADATA:
        raise RequestError("invalid_header", f"Upload-Metadata is above {_MAX_METADATA} bytes")
    try:
        return {key: value.decode("utf-8", "replace") for key, value in parse_metadata(text).items()}
    except ValueError as exc:
        raise RequestError("invalid_header", f"Upload-Metadata cannot be read: {exc}") from exc
