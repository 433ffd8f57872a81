"""Routes whose JSON bodies FastAPI reads. They accept the same JSON as submissions do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, get_args

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from celeriac import json_text
from celeriac.errors import CeleriacError, JsonError, PayloadTooLargeError, Violation
from celeriac_api.http.problems import RequestError

#: Most fields of a body, and most bytes of one without a payload. Pydantic makes a text of each thing that is wrong.
_MAX_FIELDS: Final = 100
_MAX_BYTES: Final = 64 * 1024


class _JsonRequest(Request):
    #: Why the body cannot be read. FastAPI replaces what `json` raises by an error of its own.
    refusal: CeleriacError | None = None
    #: Most bytes of the body.
    limit: int | None = None

    async def json(self) -> Any:
        """Return the body."""
        if not hasattr(self, "_json"):
            try:
                self._json = self._read(await self.body())
            except CeleriacError as exc:
                self.refusal = exc
                raise
        return self._json

    def _read(self, body: bytes) -> Any:
        if self.limit is not None and len(body) > self.limit:
            raise PayloadTooLargeError("the body", len(body), self.limit)
        try:
            document = json_text.read(body, "the body")
        except JsonError as exc:
            raise RequestError("malformed_json", str(exc)) from exc
        if isinstance(document, dict) and len(document) > _MAX_FIELDS:
            message = f"has {len(document)} fields, more than any body here can have"
            raise RequestError("invalid_request", f"the body {message}", [Violation("", message)])
        return document


class JsonRoute(APIRoute):
    """The `route_class` of a router with such bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which reads JSON strictly."""
        handler = super().get_route_handler()
        limit = None if self.body_field is None or _takes_payload(self.body_field.field_info.annotation) else _MAX_BYTES

        async def handle(request: Request) -> Response:
            reading = _JsonRequest(request.scope, request.receive)
            reading.limit = limit
            try:
                return await handler(reading)
            except HTTPException:
                if reading.refusal is None:
                    raise
                raise reading.refusal from None

        return handle


def _takes_payload(annotation: Any) -> bool:
    """Return whether a body of this model (or None) has a payload, which may be anything of any length."""
    return any("payload" in getattr(model, "model_fields", {}) for model in (annotation, *get_args(annotation)))
