"""Streams the body of a request to the disk, with constant memory whatever its size."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from celeriac.errors import Violation
from celeriac.files.service import Files
from celeriac.files.uploads import UploadWriter
from celeriac_api.http.problems import RequestError

#: So much is gathered before a thread writes it (bytes): fewer hops, little memory.
_BLOCK: Final = 1024**2


async def write_stream(intake: Files, writer: UploadWriter, chunks: AsyncIterator[bytes]) -> None:
    """Append everything; what came until the client hung up is written, then that is raised."""
    block = bytearray()
    try:
        async for chunk in chunks:
            block += chunk
            if len(block) >= _BLOCK:
                full, block = bytes(block), bytearray()
                await intake.stream(writer.write, full)
    finally:
        if block:
            await intake.stream(writer.write, bytes(block))


class MultipartFile:
    """The field `file` of a multipart form, as it arrives. Other fields are skipped."""

    def __init__(self, request: Request, boundary: bytes, *, digest_body: bool) -> None:
        self.file_name = ""
        self.media_type = ""
        #: Digest of the body as it is sent, for who asked for it: it costs as much as that of the file.
        self.body_sha256 = hashlib.sha256() if digest_body else None
        self._chunks = request.stream()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_end": self._form_ends,
            },
        )
        self._name = self._value = b""
        self._headers: dict[str, bytes] = {}
        self._in_file = self._found = self._ended = False
        self._ready: list[bytes] = []

    async def head(self) -> None:
        """Read until the file begins; raises `RequestError` if there is none."""
        while not self._found:
            if not await self._read():
                raise _no_file("the form has no field `file`")

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the file; raises `RequestError` if the form is cut off or has two files."""
        while True:
            for data in self._ready:
                yield data
            self._ready.clear()
            if not await self._read():
                break
        if not self._ended:
            raise RequestError("bad_request", "the multipart form ends too early")

    async def _read(self) -> bool:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            return False
        if self.body_sha256 is not None:
            self.body_sha256.update(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as exc:
            raise RequestError("bad_request", f"the body is not a multipart form: {exc}") from exc
        return True

    def _part_begins(self) -> None:
        self._headers.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._in_file = options.get(b"name") == b"file"
        if self._in_file:
            if self._found:
                raise _no_file("the form has two fields `file`: send one file at a time")
            self._found = True
            self.file_name = options.get(b"filename", b"").decode("utf-8", "replace")
            self.media_type = self._headers.get("content-type", b"").decode("latin-1")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._ready.append(data[start:end])

    def _part_ends(self) -> None:
        self._in_file = False

    def _form_ends(self) -> None:
        self._ended = True


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a multipart form, None for any other body; raises `RequestError` without one."""
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data":
        return None
    boundary: Any = options.get(b"boundary")
    if not boundary:
        raise RequestError("bad_request", "the Content-Type multipart/form-data names no boundary")
    return bytes(boundary)


def _no_file(message: str) -> RequestError:
    return RequestError("invalid_request", message, [Violation("file", message)])
