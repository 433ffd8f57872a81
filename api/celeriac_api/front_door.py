"""The application object: FastAPI, with the hot route ahead of it and limits around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from celeriac.errors import PayloadTooLargeError
from celeriac_api.access.credentials import read_head
from celeriac_api.access.guard import Guard, refuse
from celeriac_api.access.policy import Access
from celeriac_api.gateway import endpoint as ws
from celeriac_api.http.bodies import StreamedBody, check_declared_size, limited
from celeriac_api.http.problems import instance_of, problem_of
from celeriac_api.http.responses import HEAD_OF_GET
from celeriac_api.openapi import document as openapi_document
from celeriac_api.routes.files import files, uploads
from celeriac_api.routes.tasks.submit import PATH, SubmitEndpoint

_KINDS: Final = {"http": "request", "websocket": "websocket"}


class FrontDoor(FastAPI):
    """Serves submissions by itself and leaves everything else to FastAPI, with bodies bounded."""

    def __init__(
        self,
        *,
        guard: Guard,
        submit: SubmitEndpoint,
        workers: ws.WorkerEndpoint,
        plain: Mapping[str, ASGIApp],
        max_body_bytes: int,
        **options: Any,
    ) -> None:
        self._guard = guard
        self._submit = submit
        self._workers = workers
        #: By path: applications that answer by themselves, for every method.
        self._plain = plain
        self._max_body_bytes = max_body_bytes
        #: What is being served, by kind.
        self.open = {"request": 0, "stream": 0, "websocket": 0}
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with what the hot route reads by itself."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi_document.complete(super().openapi())
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = _KINDS.get(scope["type"])
        if kind is None:
            await super().__call__(scope, receive, send)
            return
        if kind == "request" and scope["path"].endswith("/stream"):
            kind = "stream"
        self.open[kind] += 1
        try:
            # The hot route's answers have the headers of safety already.
            hot = kind == "request" and scope["path"] == PATH and scope["method"] == "POST"
            if hot and self._guard.plain(scope):
                await self._submit(scope, receive, send)
            else:
                await self._guarded(scope, receive, send)
        finally:
            self.open[kind] -= 1

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = self._guard.dressed(send, read_head(scope), scope)
        if (refusal := await self._guard.admit(scope)) is not None:
            await refuse(refusal, scope, receive, send)
            return
        if scope.get(HEAD_OF_GET):
            # For every route at once. The server, which keeps the scope that it made, leaves the body out.
            scope = {**scope, "method": "GET"}
        access: Access | None = scope.get("celeriac.access")
        serve = self._serve if scope["type"] == "http" else self._converse
        if access is not None and access.stream:
            await self._guard.serve_stream(serve, scope, receive, send)
        elif access is not None and access.action is not None:
            await self._guard.serve_audited(serve, access.action, scope, receive, send)
        else:
            await serve(scope, receive, send)

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].removeprefix(scope.get("root_path", "")) == ws.PATH:
            await self._workers(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Below a root path the ordinary route of the same name takes it.
        if scope["path"] == PATH and scope["method"] == "POST":
            await self._submit(scope, receive, send)
            return
        if (endpoint := self._plain.get(scope["path"])) is not None:
            await endpoint(scope, receive, send)
            return

        if _streams(scope):
            body = scope[StreamedBody.KEY] = StreamedBody(receive)
            await super().__call__(scope, body, send)
            return

        try:
            check_declared_size(scope, self._max_body_bytes)
        except PayloadTooLargeError as exc:
            await problem_of(exc, instance_of(scope))(scope, receive, send)
            return
        await super().__call__(scope, limited(receive, self._max_body_bytes), send)


def _streams(scope: Scope) -> bool:
    """Whether the body goes to the disk as it comes: uploads have limits of their own."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if scope["method"] == "PUT" and path.startswith(f"{files.PATH}/"):
        return True
    return path == files.PATH or path == uploads.PATH or path.startswith(f"{uploads.PATH}/")
