"""Sends files: ranges, conditions, and headers that keep a stranger's file harmless in a browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from celeriac.files.downloads import Download
from celeriac_api.http.problems import TABLE, instance_of, problem
from celeriac_api.http.responses import as_asked

#: Whatever the file is: it does not run, no other site can frame it, and browsers do not guess its type.
_SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(?P<first>\d{0,18})-(?P<last>\d{0,18})\s*", re.IGNORECASE)


class LocalDownload(FileResponse):
    """A file of this machine, with `Range` (one or several), `If-Range` and `ETag`. Refused ranges are problems."""

    chunk_size = 256 * 1024

    def __init__(self, download: Download, headers: Mapping[str, str]) -> None:
        super().__init__(download.path, headers=headers, media_type=download.media_type, stat_result=download.stat)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or the part of it that was asked for."""
        scope = as_asked(scope)
        refused: int | None = None
        size_header: dict[str, str] = {}

        async def unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                refused = message["status"]
                size_header.update((k.decode(), v.decode()) for k, v in message["headers"] if k == b"content-range")
            elif refused is None:
                await send(message)

        await super().__call__(scope, receive, unless_refused)
        if refused is not None:
            code = "range_not_satisfiable" if refused == 416 else "bad_request"
            detail = "the header Range asks for bytes that the file does not have"
            await problem(code, TABLE[code], detail, instance_of(scope), headers=size_header)(scope, receive, send)


class RemoteDownload(Response):
    """A file of the shared storage, or one range of it. Several ranges are answered with the whole file."""

    def __init__(self, download: Download, headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "Accept-Ranges": "bytes"}, media_type=download.media_type)
        del self.headers["content-length"]
        self._download = download

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file as the storage delivers it."""
        scope = as_asked(scope)
        download, asked = self._download, Headers(scope=scope)
        assert download.objects is not None
        start, end, status = 0, download.size, 200
        wanted = _RANGE.fullmatch(asked.get("range", ""))
        if wanted is not None and asked.get("if-range", download.etag) in (
            download.etag,
            self.headers["last-modified"],
        ):
            start, end = _bounds(wanted, download.size)
            status = 206
            self.headers["content-range"] = f"bytes {start}-{end - 1}/{download.size}"
            if start >= end:
                size = {"Content-Range": f"bytes */{download.size}"}
                detail = "the header Range asks for bytes that the file does not have"
                refusal = problem(
                    "range_not_satisfiable", TABLE["range_not_satisfiable"], detail, instance_of(scope), headers=size
                )
                await refusal(scope, receive, send)
                return
        self.headers["content-length"] = str(end - start)
        await send({"type": "http.response.start", "status": status, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async for piece in iterate_in_threadpool(download.objects.read(download.path, start, end)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _bounds(wanted: re.Match[str], size: int) -> tuple[int, int]:
    """Return the range as (start, end) without the end; empty if the file has no byte of it."""
    first, last = wanted["first"], wanted["last"]
    if first:
        return int(first), min(int(last) + 1, size) if last else size
    return (max(size - int(last), 0), size) if last else (size, size)


def download_response(
    download: Download, *, inline: bool, if_none_match: str | None, if_modified_since: str | None
) -> Response:
    """Return the file, or 304 if the client has it already."""
    disposition = "inline" if inline and download.shows else "attachment"
    headers = {
        **_SAFE,
        "ETag": download.etag,
        "Last-Modified": formatdate(download.modified_s, usegmt=True),
        "Content-Disposition": f"{disposition}; {_file_name(download.name)}",
    }
    if _unchanged(download, if_none_match, if_modified_since):
        kept = ("ETag", "Last-Modified", "Cache-Control")
        return Response(status_code=304, headers={name: headers[name] for name in kept})
    return (LocalDownload if download.objects is None else RemoteDownload)(download, headers)


def _unchanged(download: Download, if_none_match: str | None, if_modified_since: str | None) -> bool:
    if if_none_match is not None:
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return "*" in tags or download.etag in tags
    if if_modified_since is not None:
        try:
            return int(download.modified_s) <= parsedate_to_datetime(if_modified_since).timestamp()
        except ValueError:
            return False
    return False


def _file_name(name: str) -> str:
    """Return the parameters that name the file: in ASCII for old clients, exact for all others (RFC 6266)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%;' else "_" for c in name) or "file"
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'filename="{plain}"{exact}'
