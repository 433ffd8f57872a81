"""The application object: FastAPI, with the guard and the hot routes ahead of it and limits around it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import cached_property, partial
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from celeriac.errors import PayloadTooLargeError
from celeriac.settings import ServerSettings
from celeriac_api.access.credentials import keep_own_cookies, read_head
from celeriac_api.access.rights import KNOWN
from celeriac_api.guard import Guard, refuse
from celeriac_api.http.bodies import RefusedBody, StreamedBody, check_declared_size, limited, within
from celeriac_api.http.compression import Compression
from celeriac_api.http.problems import STOPPED, TABLE, instance_of, problem, problem_of
from celeriac_api.http.responses import HEAD_OF_GET
from celeriac_api.openapi import document as openapi_document
from celeriac_api.routes.files.method_override import with_meant_method
from celeriac_api.routes.tasks.submit import PATH, submit
from celeriac_api.routing import Found, Router, RouteTable, method_of, path_of


class FrontDoor(FastAPI):
    """Serves submissions and other hot routes by itself and leaves all others to FastAPI, with bounded bodies."""

    def __init__(self, *, guard: Guard, max_body_bytes: int, unproven: ServerSettings, **options: Any) -> None:
        self.guard = guard
        self.max_body_bytes = max_body_bytes
        self._unproven = unproven
        self._compression = Compression(unproven.compress_from)
        #: What is being served, by kind.
        self.open = {"request": 0, "stream": 0, "websocket": 0}
        #: Whether the server is about to end, and cancels the requests that take too long.
        self.stopping = False
        super().__init__(**options)

    def add(self, router: Router) -> None:
        """Take in the routes of a router. Where paths overlap, the route that was added first is chosen."""
        self.router.routes.extend(router.routes)

    @cached_property
    def table(self) -> RouteTable:
        """All routes; raises `TypeError` if one declares no access. To be read once all of them are added."""
        return RouteTable(self.routes)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with what the routes read by themselves and what they need."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi_document.complete(super().openapi(), self.table.access())
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "http":
            if scope["path"] == PATH and scope["method"] == "POST" and self.guard.plain(scope):
                # The hot route. Its answers have the security headers already.
                await self._counted("request", submit, scope, receive, send)
                return
            scope = with_meant_method(scope)
        elif kind != "websocket":
            await super().__call__(scope, receive, send)
            return
        found = self.table.find(method_of(scope), path_of(scope))
        if kind == "http":
            kind = "stream" if found is not None and found.served and found.route.access.stream else "request"
        await self._counted(kind, partial(self._guarded, found), scope, receive, send)

    async def _counted(self, kind: str, app: Any, scope: Scope, receive: Receive, send: Send) -> None:
        self.open[kind] += 1
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.stopping or scope["type"] != "http":
                raise
            await _give_up(scope, receive, send)
        finally:
            self.open[kind] -= 1

    async def _guarded(self, found: Found | None, scope: Scope, receive: Receive, send: Send) -> None:
        head = read_head(scope)
        if head.cookie is not None:
            keep_own_cookies(scope)
        send = self.guard.dressed(send, head, scope)
        if (refusal := await self.guard.admit(scope, found)) is not None:
            await refuse(refusal, scope, receive, send)
            return
        if found is not None and found.head_of_get:
            # For every route at once. The server, which keeps the scope that it made, leaves the body out.
            scope = {**scope, "method": "GET", HEAD_OF_GET: True}
        access = found.route.access if found is not None and found.served else KNOWN
        if scope["type"] == "http" and not access.stream:
            send = self._compression.sending(send, scope)
        serve = partial(self._serve, found)
        if access.stream:
            await self.guard.serve_stream(serve, scope, receive, send)
        elif access.action is not None:
            await self.guard.serve_audited(serve, access.action, scope, receive, send)
        else:
            await serve(scope, receive, send)

    async def _serve(self, found: Found | None, scope: Scope, receive: Receive, send: Send) -> None:
        if found is not None and found.route.served_by is not None and (found.served or found.route.every_method):
            await found.route.served_by(scope, receive, send)
        elif scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
        elif found is not None and found.route.streams_body:
            body = scope[StreamedBody.KEY] = StreamedBody(receive)
            await super().__call__(scope, body, send)
        elif found is not None and found.route.access.open:
            receive = within(receive, self._unproven.unproven_timeout)
            await self._serve_bounded(self._unproven.max_unproven_bytes, scope, receive, send)
        else:
            await self._serve_bounded(self.max_body_bytes, scope, receive, send)

    async def _serve_bounded(self, most_bytes: int, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_declared_size(scope, most_bytes)
        except PayloadTooLargeError as exc:
            await RefusedBody(problem_of(exc, instance_of(scope)))(scope, receive, send)
            return
        await super().__call__(scope, limited(receive, most_bytes), send)


async def _give_up(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that the stopping server cancelled; an answer that has begun is broken off."""
    with contextlib.suppress(RuntimeError):  # the answer has begun
        await problem("stopping", TABLE["stopping"], STOPPED, instance_of(scope))(scope, receive, send)
