"""Routes that declare what they need, and the table of them that the guard looks requests up in.

`@router.get("/x", access=READ)` is the only place where a route is declared. The table is built from the routes of the
application. A route without `access` is an error then, so the process does not start.

Path parameters named `task_id` or `taskId` name a task, `workflow_id` names a workflow and `file_id` an upload: only
their owner and admins get past the guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from fastapi.routing import APIWebSocketRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Scope

from celeriac_api.access.rights import Access
from celeriac_api.http.json_route import JsonRoute

#: What stands for the method of a WebSocket.
WEBSOCKET: Final = "WS"

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class Route(JsonRoute):
    """An HTTP route and what it needs.

    `streams_body` passes the body on as it arrives, without the limit of `max_body_bytes`. An ASGI application in
    `served_by` answers ahead of FastAPI, which then only documents the route; with `every_method` it also answers
    methods that the path does not have.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        access: Access,
        streams_body: bool = False,
        served_by: ASGIApp | None = None,
        every_method: bool = False,
        **options: Any,
    ) -> None:
        # Short names for generated clients. Routes that share a handler set `operation_id`.
        super().__init__(path, endpoint, generate_unique_id_function=lambda route: route.name, **options)
        self.access = access
        self.streams_body = streams_body
        self.served_by = served_by
        self.every_method = every_method
        if served_by is not None:
            self.app = served_by


class WebSocketRoute(APIWebSocketRoute):
    """A WebSocket and what it needs; `served_by` as in `Route`."""

    streams_body = False
    every_method = False
    methods = frozenset({WEBSOCKET})

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, access: Access, served_by: ASGIApp | None = None
    ) -> None:
        super().__init__(path, endpoint)
        self.access = access
        self.served_by = served_by
        if served_by is not None:
            self.app = served_by


class Router:
    """Declares routes below a prefix; `FrontDoor.add` takes them into an application."""

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: Sequence[str] = (),
        include_in_schema: bool = True,
        streams_bodies: bool = False,
    ) -> None:
        self.routes: list[Route | WebSocketRoute] = []
        self._prefix = prefix
        self._options: dict[str, Any] = {"tags": list(tags), "include_in_schema": include_in_schema}
        self._streams_bodies = streams_bodies

    def get(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route; `options` are those of `Route` and of FastAPI's routes."""
        return self._route("GET", path, access, options)

    def post(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route, see `get`."""
        return self._route("POST", path, access, options)

    def put(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route, see `get`."""
        return self._route("PUT", path, access, options)

    def patch(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route, see `get`."""
        return self._route("PATCH", path, access, options)

    def delete(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route, see `get`."""
        return self._route("DELETE", path, access, options)

    def head(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route, see `get`. A HEAD without a route of its own is answered as the GET of its path."""
        return self._route("HEAD", path, access, options)

    def options(self, path: str, *, access: Access, **options: Any) -> Callable[[_Handler], _Handler]:
        """Declare a route, see `get`."""
        return self._route("OPTIONS", path, access, options)

    def websocket(
        self, path: str, *, access: Access, served_by: ASGIApp | None = None
    ) -> Callable[[_Handler], _Handler]:
        """Declare a WebSocket."""

        def declare(handler: _Handler) -> _Handler:
            self.routes.append(WebSocketRoute(self._prefix + path, handler, access=access, served_by=served_by))
            return handler

        return declare

    def _route(
        self, method: str, path: str, access: Access, options: Mapping[str, Any]
    ) -> Callable[[_Handler], _Handler]:
        known = {"streams_body": self._streams_bodies, **self._options, **options}

        def declare(handler: _Handler) -> _Handler:
            self.routes.append(Route(self._prefix + path, handler, access=access, methods=[method], **known))
            return handler

        return declare


@dataclass(frozen=True, slots=True)
class Found:
    """What the table has for a request."""

    route: Route | WebSocketRoute
    parameters: Mapping[str, str]
    #: False if the path is known and the method is not; `route` is then one of the path's routes.
    served: bool = True
    #: A HEAD that is answered as the GET of the same path, without the body.
    head_of_get: bool = False


class RouteTable:
    """All routes of an application. It finds the route that the application's router would choose."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        #: In the router's order: how the path begins, its pattern, the methods, the route.
        self._rows = [
            (route.path.partition("{")[0], route.path_regex.match, frozenset(route.methods or ()), route)
            for route in map(_declared, routes)
        ]
        #: Paths without parameters, which are most.
        self._plain: dict[tuple[str, str], Found] = {}
        for _, _, methods, route in self._rows:
            if "{" not in route.path:
                for method in methods:
                    found = self._search(method, route.path)
                    assert found is not None, "a route matches its own path"
                    self._plain.setdefault((method, route.path), found)

    def access(self) -> dict[str, Access]:
        """Return what each route needs, by `METHOD path`."""
        return {f"{method} {route.path}": route.access for _, _, methods, route in self._rows for method in methods}

    def find(self, method: str, path: str) -> Found | None:
        """Return the route of a request; None if no route has this path."""
        found = self._plain.get((method, path)) or self._search(method, path)
        if method == "HEAD" and found is not None and not found.served:
            # A stream has no end, so there is nothing that a HEAD could tell of it.
            got = self.find("GET", path)
            if got is not None and got.served:
                return replace(got, head_of_get=not got.route.access.stream)
        return found

    def methods(self, path: str) -> set[str]:
        """Return the HTTP methods that a path has."""
        found: set[str] = set()
        for start, match, methods, route in self._rows:
            if path.startswith(start) and match(path):
                found |= methods
                if "GET" in methods and not route.access.stream:
                    found.add("HEAD")
        return found - {WEBSOCKET}

    def _search(self, method: str, path: str) -> Found | None:
        other: Found | None = None
        for start, match, methods, route in self._rows:
            if path.startswith(start) and (matched := match(path)) is not None:
                if method in methods:
                    return Found(route, matched.groupdict())
                other = other or Found(route, matched.groupdict(), served=False)
        return other


def _declared(route: BaseRoute) -> Route | WebSocketRoute:
    if isinstance(route, Route | WebSocketRoute):
        return route
    path = getattr(route, "path", route)
    raise TypeError(f"the route {path} declares no access: declare it with celeriac_api.routing.Router")


def method_of(scope: Scope) -> str:
    """Return the method of a request, as the table writes it."""
    method: str = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
    return method


def path_of(scope: Scope) -> str:
    """Return the path of a request below the root path of the application."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
