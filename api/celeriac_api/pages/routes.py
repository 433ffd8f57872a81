"""The routes of the pages: `/dashboard`, `/docs`, `/test-worker`, the OpenAPI document, and the pages' files."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from celeriac.access.principal import LOCAL, Principal, Scope
from celeriac.up.ready_text import example_task, example_value
from celeriac_api.access.credentials import session_of
from celeriac_api.access.rights import PAGE, READ
from celeriac_api.http.compression import accepts_gzip
from celeriac_api.http.responses import json_response
from celeriac_api.pages.assets import Asset, assets
from celeriac_api.pages.dashboard_page import dashboard_page, page_policy
from celeriac_api.pages.openapi_file import OpenApiFile
from celeriac_api.pages.texts import language_of
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(include_in_schema=False)

#: On every page and every file of it: nothing is loaded from other sites, nothing is inline, no site can frame it. The
#: dashboard's own page has more.
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "media-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

#: The browser asks again each time and gets 304 until the program changes, so a page never mixes two versions.
_REVALIDATED: Final = "no-cache"


@router.get("/", access=PAGE)
async def index(request: Request) -> Response:
    """Redirect to the dashboard."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/dashboard", 307)


@router.get("/dashboard", access=PAGE)
async def dashboard(request: Request) -> Response:
    """Answer with the dashboard. The address after `#` says what it shows."""
    answer = answer_with(request, dashboard_page(language_of(request)))
    answer.headers["Content-Security-Policy"] = page_policy(SECURITY_HEADERS["Content-Security-Policy"])
    # Whose language its texts are in follows from these.
    answer.headers["Vary"] = "Accept-Encoding, Accept-Language, Cookie"
    return answer


@router.get("/dashboard/session", access=READ)
async def session(request: Request) -> Response:
    """Answer whether the browser has signed in, because scripts cannot read the cookie, and what the caller may do."""
    caller: Principal = request.scope.get("celeriac.principal", LOCAL)
    return json_response(
        {
            "signed_in": session_of(request.headers.get("cookie", "")) is not None,
            "user_id": caller.user_id,
            "admin": caller.admin,
            "submit": caller.may(Scope.SUBMIT),
        }
    )


@router.get("/dashboard/examples", access=READ)
async def examples(parts: PartsOf) -> Response:
    """Answer with the examples of the form for a new task: a submission that works here, and a payload of each type."""
    known = await parts.tasks.types.all()
    schemas = {one.name: known.payload_schema(one) for one in known}
    first = example_task(parts.settings.grpc_services, {name: {"schema": schema} for name, schema in schemas.items()})
    payloads = {name: example_value(schema) for name, schema in schemas.items()}
    return json_response({"first": first, "payloads": {**payloads, first["type"]: first["payload"]}})


@router.get("/docs", access=PAGE)
async def reference(request: Request) -> Response:
    """Answer with the API reference."""
    return page(request, "docs.html")


@router.get("/openapi.json", access=READ)
async def openapi_document(request: Request) -> Response:
    """Answer with the OpenAPI document."""
    root = request.scope.get("root_path", "").rstrip("/")
    state = request.app.state
    if not hasattr(state, "openapi_files"):
        # One for each path at which the application is mounted.
        state.openapi_files = {}
    file = state.openapi_files.setdefault(root, OpenApiFile(request.app, root))
    return answer_with(request, await file.made())


@router.get("/test-worker", access=PAGE)
async def test_worker(request: Request) -> Response:
    """Answer with the page of a worker that runs in the browser."""
    return page(request, "test-worker.html")


@router.get("/dashboard/static/{path:path}", access=READ)
async def static(path: str, request: Request) -> Response:
    """Answer with one file."""
    return page(request, path)


@router.get("/dashboard/{path:path}", access=PAGE)
async def view(path: str, request: Request) -> Response:
    """Redirect an address without `#`, such as `/dashboard/tasks?status=failed`, to the view of this name."""
    if "." in path:
        # It looks for a file.
        raise HTTPException(404)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/dashboard#/{quote(path)}{query}", 307)


def page(request: Request, name: str) -> Response:
    """Return the file `static/NAME`, or 304 if the browser has it; raises 404 if it does not exist."""
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404)
    return answer_with(request, asset)


def answer_with(request: Request, asset: Asset) -> Response:
    """Return a file, or 304 if the browser has it."""
    headers = {
        **SECURITY_HEADERS,
        "ETag": asset.etag,
        "Cache-Control": _REVALIDATED,
        "Vary": "Accept-Encoding",
        "Content-Type": asset.media_type,
    }
    if _held(request, asset):
        return Response(status_code=304, headers=headers)
    if asset.gzipped is not None and accepts_gzip(request.scope):
        # The compressed body is another representation, so it has another strong validator.
        headers |= {"Content-Encoding": "gzip", "ETag": _gzip_etag(asset)}
        return Response(asset.gzipped, headers=headers)
    return Response(asset.body, headers=headers)


def _gzip_etag(asset: Asset) -> str:
    return f'{asset.etag[:-1]}-gz"'


def _held(request: Request, asset: Asset) -> bool:
    # If-None-Match compares weakly (RFC 9110, section 13.1.2): proxies mark what they compress with W/.
    held = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return not held.isdisjoint({asset.etag, _gzip_etag(asset), "*"})
