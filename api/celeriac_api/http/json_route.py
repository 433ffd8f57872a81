"""Routes whose JSON bodies FastAPI reads. They accept the same JSON as submissions do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac_api.http.problems import RequestError


class _JsonRequest(Request):
    #: Why the body cannot be read. FastAPI replaces what `json` raises by an error of its own.
    refusal: RequestError | None = None

    async def json(self) -> Any:
        """Return the body."""
        if not hasattr(self, "_json"):
            try:
                self._json = json_text.read(await self.body(), "the body")
            except JsonError as exc:
                self.refusal = RequestError("malformed_json", str(exc))
                raise self.refusal from exc
        return self._json


class JsonRoute(APIRoute):
    """The `route_class` of a router with such bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which reads JSON strictly."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            reading = _JsonRequest(request.scope, request.receive)
            try:
                return await handler(reading)
            except HTTPException:
                if reading.refusal is None:
                    raise
                raise reading.refusal from None

        return handle
