"""Files: upload one, read its facts, remove it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from celeriac.errors import CeleriacError, FileTypeRefusedError, Violation
from celeriac.files.names import display_name
from celeriac.files.uploads import StoredUpload, UploadInfo, UploadWriter
from celeriac.model import rfc3339, utc_from_ms
from celeriac_api.access.caller import principal_in
from celeriac_api.access.rights import READ, SUBMIT
from celeriac_api.http import digests
from celeriac_api.http.bodies import RefusedBody
from celeriac_api.http.problems import RequestError, instance_of, problem_of
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.openapi.problem_examples import FILE_ID
from celeriac_api.openapi.responses import location, problems, request_header
from celeriac_api.openapi.schemas import FileFacts, UploadedFile
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routes.files.file_body import MultipartFile, boundary_of, write_stream
from celeriac_api.routing import Router

PATH: Final = "/api/v1/files"
router = Router(prefix=PATH, tags=["files"])

FileId = Annotated[str, Path(description="The id in the answer to the upload.", examples=[FILE_ID])]

_DIGEST: Final = "MOFJVevxNSJm3C/4Bn5oEEYH51CrudOzZYK4r5CfzFg="
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "parameters": [
        request_header(
            "X-Checksum-Sha256",
            "The sha-256 of the file, which is checked.",
            example="30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58",
            pattern="^[0-9a-fA-F]{64}$",
        ),
        request_header("Repr-Digest", "The same (RFC 9530).", example=f"sha-256=:{_DIGEST}:"),
        request_header(
            "Content-Digest", "The sha-256 of the body as it is sent (RFC 9530).", example=f"sha-256=:{_DIGEST}:"
        ),
    ],
}
_PROBLEMS: Final = problems(
    "bad_request",
    "invalid_header",
    "invalid_request",
    "too_large",
    FileTypeRefusedError("uploads of type text/html are not accepted; use one of: video/*, image/*"),
    "checksum_mismatch",
    "storage_full",
)


@router.put("", access=SUBMIT, streams_body=True, include_in_schema=False, status_code=201)
@router.post(
    "",
    access=SUBMIT,
    streams_body=True,
    summary="Upload a file",
    description=(
        "A multipart form with a field `file`, or the bare file with `?filename=` (also as `PUT /api/v1/files/NAME`: "
        "`curl -T NAME HOST/api/v1/files/`). It is streamed to the disk. A digest sent along (`X-Checksum-Sha256`, "
        "`Content-Digest`, `Repr-Digest`, `Digest`) is checked. The `file_id` goes into the payload of a "
        "`file_process` task, which takes the file over. A file that no task takes is removed in time."
    ),
    status_code=201,
    response_model=UploadedFile,
    response_description="The file is stored.",
    responses={201: {"headers": location("what is known of it", f"{PATH}/{FILE_ID}")}, **_PROBLEMS},
    openapi_extra=_BODY,
)
async def upload_file(
    request: Request,
    parts: PartsOf,
    filename: Annotated[str | None, Query(description="The name of the file, if the body is the bare file.")] = None,
) -> Response:
    """Store one file and answer with its facts."""
    try:
        boundary = boundary_of(request.headers.get("content-type", ""))
        stored = await (
            _bare(request, parts, filename) if boundary is None else _form(request, parts, boundary, filename)
        )
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    except CeleriacError as exc:
        return RefusedBody(problem_of(exc, instance_of(request.scope)))
    headers = {"Location": f"{request.scope.get('root_path', '')}{PATH}/{stored.info.file_id}"}
    return json_response(_uploaded(stored), 201, headers)


# In OpenAPI it would be the path of the uploads' ids with another name, which is not allowed there.
@router.put("/{filename}", access=SUBMIT, streams_body=True, include_in_schema=False, status_code=201)
async def upload_named_file(
    request: Request, parts: PartsOf, filename: Annotated[str, Path(description="The file's name.")]
) -> Response:
    """Store one file whose name is the last part of the path."""
    return await upload_file(request, parts, filename)


@router.get(
    "/{file_id}",
    access=READ,
    summary="Read an upload",
    description="Name, size, media type and digest of a complete file that no task has taken.",
    response_model=FileFacts,
    responses=problems("file_not_found"),
)
async def read_file(file_id: FileId, parts: PartsOf) -> Response:
    """Answer with the facts of a complete file."""
    area = parts.files.uploads
    stored = await parts.files.stream(area.digest, await parts.files.run(area.look_up, file_id))
    facts = {"filename": stored.info.name, "media_type": stored.info.media_type}
    created_at = rfc3339(utc_from_ms(stored.info.created_s * 1000))
    return json_response({**_uploaded(stored), **facts, "created_at": created_at})


@router.delete(
    "/{file_id}",
    access=SUBMIT,
    summary="Remove an upload",
    description="Removes a file that no task has taken.",
    status_code=204,
    response_description="It is gone.",
    responses=problems("file_not_found", "file_busy"),
)
async def drop_file(file_id: FileId, parts: PartsOf) -> Response:
    """Remove an upload that no task has taken."""
    await parts.files.run(parts.files.uploads.discard, file_id)
    return Response(status_code=204, headers=HEADERS)


async def _bare(request: Request, parts: Parts, name: str | None) -> StoredUpload:
    if not name or not display_name(name):
        message = "name the file: ?filename=clip.mp4 (or send a multipart form with a field `file`)"
        raise RequestError("invalid_request", message, [Violation("filename", message)])
    expected = [digests.of_file(request.headers), digests.of_body(request.headers)]
    length = request.headers.get("content-length")
    media_type = request.headers.get("content-type", "")
    writer = await _begin(request, parts, name, media_type, int(length) if length is not None else None)
    try:
        await write_stream(parts.files, writer, request.stream())
        found = await parts.files.stream(writer.digest)
        for digest in expected:
            digests.check(found, digest)
        return await parts.files.stream(writer.finish)
    except BaseException:
        writer.discard()
        raise


async def _form(request: Request, parts: Parts, boundary: bytes, name: str | None) -> StoredUpload:
    expected, body_digest = digests.of_file(request.headers), digests.of_body(request.headers)
    form = MultipartFile(request, boundary, digest_body=body_digest is not None)
    await form.head()
    writer = await _begin(request, parts, form.file_name or name or "file", form.media_type, None)
    try:
        await write_stream(parts.files, writer, form.content())
        found = await parts.files.stream(writer.digest)
        digests.check(found, expected)
        # Strictly it is the digest of the whole form. That of the file alone is accepted too, as some clients send it.
        if form.body_sha256 is not None and body_digest != form.body_sha256.digest():
            digests.check(found, body_digest)
        return await parts.files.stream(writer.finish)
    except BaseException:
        writer.discard()
        raise


async def _begin(request: Request, parts: Parts, name: str, media_type: str, length: int | None) -> UploadWriter:
    owner = principal_in(request.scope).user_id

    def begin() -> UploadWriter:
        info: UploadInfo = area.begin(name=name, media_type=media_type, length=length, owner=owner)
        return area.open(info.file_id)

    area = parts.files.uploads
    return await parts.files.run(begin)


def _uploaded(stored: StoredUpload) -> dict[str, Any]:
    return {
        "file_id": stored.info.file_id,
        "path": str(stored.path),
        "size": stored.size,
        "sha256": stored.info.sha256,
    }
