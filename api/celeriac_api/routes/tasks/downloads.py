"""The files of a task: its result and its original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from fastapi import Header, Query
from starlette.responses import Response

from celeriac.files.downloads import (
    Download,
    open_download,
    open_object,
    original_display_name,
    original_path,
    result_path,
)
from celeriac.model import Task
from celeriac_api.access.rights import READ
from celeriac_api.http.downloads import download_response
from celeriac_api.http.problems import RequestError
from celeriac_api.openapi.responses import Responses, header, problems, request_header
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routes.tasks.submit import PATH
from celeriac_api.routes.tasks.task import TaskId
from celeriac_api.routing import Router

router = Router(prefix=f"{PATH}/{{task_id}}", tags=["files"])

Inline = Annotated[bool, Query(description="Let a browser show or play it instead of saving it.")]
IfNoneMatch = Annotated[str | None, Header(description="The ETag of the client's copy.")]
IfModifiedSince = Annotated[str | None, Header(description="The `Last-Modified` of the client's copy.")]

#: Usually the media type of the file, whatever it is.
_FILE: Final = {
    media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in ("application/octet-stream", "*/*")
}
_FACTS: Final = {
    "ETag": header("Identifies the content of the file.", example='"9b2c-65b8f1a0"'),
    "Last-Modified": header("When the file was written.", example="Thu, 31 Jan 2030 08:00:00 GMT"),
    "Content-Disposition": header("Its name.", example='attachment; filename="result.mp4"'),
    "Accept-Ranges": header("`Range` is supported.", example="bytes"),
}
_RESPONSES: Final[Responses] = {
    200: {"description": "The file.", "content": _FILE, "headers": _FACTS},
    206: {
        "description": "The part that `Range` asks for; several parts are `multipart/byteranges`.",
        "content": _FILE,
        "headers": {**_FACTS, "Content-Range": header("Which part.", example="bytes 0-1023/1048576")},
    },
    304: {"description": "The client has the file already.", "headers": {"ETag": _FACTS["ETag"]}},
    **problems(
        RequestError("bad_request", "the header Range asks for bytes that the file does not have"),
        "task_not_found",
        "file_not_found",
        "range_not_satisfiable",
        "file_not_allowed",
        "store_unavailable",
    ),
}
_ASKED: Final = {
    "parameters": [
        request_header("Range", "The parts of the file to send.", example="bytes=0-1023"),
        request_header("If-Range", "`Range` applies only to this ETag (or time); otherwise the whole file is sent."),
    ]
}


@router.get(
    "/file",
    access=READ,
    summary="Download the result file",
    description="Supports `Range` and `ETag`. 404 before the task is completed, or if the result is not a file.",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_ASKED,
)
async def download_result(
    task_id: TaskId,
    parts: PartsOf,
    inline: Inline = False,
    if_none_match: IfNoneMatch = None,
    if_modified_since: IfModifiedSince = None,
) -> Response:
    """Send the result."""
    task = await parts.store.get(task_id)
    path = result_path(task)
    download = await parts.files.run(_found, parts, path, Path(path).name)
    return download_response(download, inline=inline, if_none_match=if_none_match, if_modified_since=if_modified_since)


@router.get(
    "/original",
    access=READ,
    summary="Download the original",
    description="The file that the task works on, with the name that it was submitted with.",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_ASKED,
)
async def download_original(
    task_id: TaskId,
    parts: PartsOf,
    inline: Inline = False,
    if_none_match: IfNoneMatch = None,
    if_modified_since: IfModifiedSince = None,
) -> Response:
    """Send the original."""
    task: Task = await parts.store.get(task_id)
    hooks = parts.tasks.types.local.hooks_of(task.type)
    download = await parts.files.run(_found, parts, original_path(task, hooks), original_display_name(task, hooks))
    return download_response(download, inline=inline, if_none_match=if_none_match, if_modified_since=if_modified_since)


def _found(parts: Parts, path: str, name: str) -> Download:
    if parts.files.objects is not None and "://" in path:
        return open_object(parts.files.objects, path, name)
    return open_download(parts.files.real_path(path), name)
