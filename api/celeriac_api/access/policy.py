"""Which route needs what: every route of the HTTP application, in one table.

A route that is not in it is refused where authentication is on, and
`tests/integration/access/test_access_routes.py` fails.
Path parameters named `task_id` or `taskId` name a task: the guard lets nobody but its owner and admins through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from celeriac.access.principal import Scope

#: What stands for the method of a WebSocket.
WEBSOCKET: Final = "WS"


@dataclass(frozen=True, slots=True)
class Access:
    """What a route needs. `scope` None lets everybody through who is known."""

    scope: Scope | None = None
    #: Nobody needs to be known.
    open: bool = False
    #: What calls of it are named in the audit; None leaves them out.
    action: str | None = None
    #: It goes on for long: counted per principal, cut when the credential ends, and it takes a token in its query,
    #: since browsers can set no header there.
    stream: bool = False
    #: A WebSocket that may come without a credential and has to show one in its first message.
    first_message: bool = False
    #: A page: a browser without a credential is led to the sign-in.
    page: bool = False
    #: Errors of the dispatch API (docs/dispatch.md): `{"error": TEXT}`.
    plain_errors: bool = False
    #: Errors in OpenAI's shape.
    openai_errors: bool = False


_OPEN = Access(open=True)
_READ = Access(Scope.READ)
_SUBMIT = Access(Scope.SUBMIT)
_PAGE = Access(Scope.READ, page=True)
_STREAM = Access(Scope.READ, stream=True)


def _acts(action: str, scope: Scope = Scope.SUBMIT) -> Access:
    return Access(scope, action=action)


#: `METHOD path` → what it needs. HEAD is GET, streams apart: they have no end that a head could tell of.
ROUTES: Final[Mapping[str, Access]] = {
    # --- open to everybody
    "GET /healthz": _OPEN,
    "GET /readyz": _OPEN,
    "GET /sign-in": _OPEN,
    "POST /sign-in": _OPEN,
    "POST /sign-out": _OPEN,
    # --- pages
    "GET /": _PAGE,
    "GET /dashboard": _PAGE,
    "GET /dashboard/session": _READ,
    "GET /dashboard/examples": _READ,
    "GET /dashboard/static/{path:path}": _READ,
    "GET /docs": _PAGE,
    "GET /test-worker": _PAGE,
    "GET /openapi.json": _READ,
    # --- tasks
    "POST /api/v1/tasks": _SUBMIT,
    "POST /api/v1/tasks/batch": _SUBMIT,
    "GET /api/v1/tasks": _READ,
    "GET /api/v1/tasks/{task_id}": _READ,
    "GET /api/v1/tasks/{task_id}/events": _READ,
    "GET /api/v1/tasks/{task_id}/progress": _READ,
    "GET /api/v1/tasks/{task_id}/progress/stream": _STREAM,
    "GET /api/v1/tasks/{task_id}/log": _READ,
    "GET /api/v1/tasks/{task_id}/log/stream": _STREAM,
    "GET /api/v1/tasks/{task_id}/file": _READ,
    "GET /api/v1/tasks/{task_id}/original": _READ,
    "POST /api/v1/tasks/{task_id}/cancel": _acts("task.cancel"),
    "POST /api/v1/tasks/{task_id}/retry": _acts("task.retry"),
    # --- history
    "GET /api/v1/dead": _READ,
    "GET /api/v1/stats": _READ,
    "POST /api/v1/bulk": _acts("task.bulk"),
    # --- live, of the tasks that the caller may see
    "GET /api/v1/live": _STREAM,
    "GET /api/v1/running": _READ,
    # --- dispatch
    "POST /api/openai": Access(Scope.SUBMIT, plain_errors=True),
    "GET /api/task/{task_id}": Access(Scope.READ, plain_errors=True),
    "POST /v1/chat/completions": Access(Scope.SUBMIT, openai_errors=True),
    "GET /v1/models": Access(Scope.READ, openai_errors=True),
    "GET /v1/models/{model:path}": Access(Scope.READ, openai_errors=True),
    # --- a user's own, whatever the scopes
    "GET /api/task/tasks": Access(),
    "GET /api/task/task/{task_id}/status": Access(),
    "DELETE /api/task/task/{task_id}": Access(action="task.remove"),
    "WS /api/task/ws/task/{user_id}": Access(stream=True, first_message=True),
    # --- files
    "POST /api/v1/files": _SUBMIT,
    "PUT /api/v1/files": _SUBMIT,
    "PUT /api/v1/files/{filename}": _SUBMIT,
    "GET /api/v1/files/{file_id}": _READ,
    "DELETE /api/v1/files/{file_id}": _SUBMIT,
    "OPTIONS /api/v1/uploads": _SUBMIT,
    "POST /api/v1/uploads": _SUBMIT,
    "OPTIONS /api/v1/uploads/{file_id}": _SUBMIT,
    "HEAD /api/v1/uploads/{file_id}": _SUBMIT,
    "PATCH /api/v1/uploads/{file_id}": _SUBMIT,
    "DELETE /api/v1/uploads/{file_id}": _SUBMIT,
    # --- what there is. Workers tell of hosts and of everybody's tasks.
    "GET /api/v1/groups": _READ,
    "GET /api/v1/groups/{name:path}": _READ,
    "POST /api/v1/groups/{name:path}/pause": _acts("group.pause", Scope.ADMIN),
    "POST /api/v1/groups/{name:path}/resume": _acts("group.resume", Scope.ADMIN),
    "PUT /api/v1/groups/{name:path}/limits": _acts("group.limit", Scope.ADMIN),
    "DELETE /api/v1/groups/{name:path}/limits": _acts("group.unlimit", Scope.ADMIN),
    "GET /api/v1/task-types": _READ,
    "GET /api/v1/task-types/{name:path}": _READ,
    "GET /api/v1/workers": Access(Scope.ADMIN),
    "GET /metrics": _READ,
    "GET /api/v1/audit": Access(Scope.ADMIN),
    # --- definitions: their routes let nobody but owners and admins through
    "POST /tasks": _acts("definition.create"),
    "GET /tasks/{task_def_id}": _READ,
    "GET /tasks/{task_def_id}/instances": _READ,
    "POST /tasks/{task_def_id}/pause": _acts("definition.pause"),
    "POST /tasks/{task_def_id}/resume": _acts("definition.resume"),
    "POST /tasks/{task_def_id}/cancel": _acts("definition.cancel"),
    "POST /tasks/{task_def_id}/trigger": _acts("definition.trigger"),
    "POST /api/v1/definitions": _acts("definition.create"),
    "GET /api/v1/definitions": _READ,
    "GET /api/v1/definitions/{task_def_id}": _READ,
    "GET /api/v1/definitions/{task_def_id}/instances": _READ,
    "POST /api/v1/definitions/{task_def_id}/pause": _acts("definition.pause"),
    "POST /api/v1/definitions/{task_def_id}/resume": _acts("definition.resume"),
    "POST /api/v1/definitions/{task_def_id}/cancel": _acts("definition.cancel"),
    "POST /api/v1/definitions/{task_def_id}/trigger": _acts("definition.trigger"),
    "GET /users/{user_id}/tasks": _READ,
    "POST /api/v1/definitions/preview": _READ,
    "GET /api/v1/definitions/{task_def_id}/preview": _READ,
    "GET /api/v1/definitions/{task_def_id}/changes": _READ,
    "POST /api/v1/definitions/{task_def_id}/backfill": _acts("definition.backfill"),
    "PATCH /api/v1/definitions/{task_def_id}": _acts("definition.edit"),
    # --- remote workers
    "WS /ws": Access(Scope.WORKER, stream=True),
}


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    #: By method: what it needs and the names of its parameters.
    here: dict[str, tuple[Access, tuple[str, ...]]] = field(default_factory=dict)
    #: The same for a parameter that takes the rest of the path, by what follows it.
    rest: dict[str, dict[str, tuple[Access, tuple[str, ...]]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What the table says of a request; `access` None: the path is known, the method is not."""

    access: Access | None
    parameters: Mapping[str, str]
    #: A HEAD that is answered as the GET of the same path, without the body.
    head_of_get: bool = False


class Policy:
    """Finds what a request needs in a table such as `ROUTES`, in a few microseconds."""

    def __init__(self, routes: Mapping[str, Access] = ROUTES) -> None:
        self._root = _Node()
        #: Paths without parameters, which are most.
        self._plain: dict[tuple[str, str], Found] = {}
        for line, access in routes.items():
            method, _, path = line.partition(" ")
            self._add(method, path, access)

    def _add(self, method: str, path: str, access: Access) -> None:
        node, names = self._root, []
        if "{" not in path:
            self._plain[method, path] = Found(access, {})
        segments = path[1:].split("/")
        for place, segment in enumerate(segments):
            if segment.startswith("{"):
                name, _, kind = segment[1:-1].partition(":")
                names.append(name)
                if kind == "path":
                    suffix = "".join(f"/{part}" for part in segments[place + 1 :])
                    node.rest.setdefault(suffix, {})[method] = access, tuple(names)
                    return
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literal.setdefault(segment, _Node())
        node.here[method] = access, tuple(names)

    def find(self, method: str, path: str) -> Found | None:
        """Return what `method` of `path` needs; None where the table knows no such path."""
        if (plain := self._plain.get((method, path))) is not None:
            return plain
        known: Found | None = None
        for table, values in _walk(self._root, path[1:].split("/"), 0, ()):
            entry = table.get(method)
            head_of_get = entry is None and method == "HEAD"
            if head_of_get:
                entry = table.get("GET")
            if entry is not None:
                parameters = dict(zip(entry[1], values, strict=True))
                return Found(entry[0], parameters, head_of_get and not entry[0].stream)
            known = known or (Found(None, {}) if table else None)
        return known

    def methods(self, path: str) -> set[str]:
        """Return the methods that this path is served with."""
        found: set[str] = set()
        for table, _ in _walk(self._root, path[1:].split("/"), 0, ()):
            found |= table.keys()
            if "GET" in table and not table["GET"][0].stream:
                found.add("HEAD")
        return found


def _walk(
    node: _Node, segments: list[str], place: int, values: tuple[str, ...]
) -> Iterator[tuple[dict[str, tuple[Access, tuple[str, ...]]], tuple[str, ...]]]:
    """Yield the methods at each node that matches, literal segments before parameters."""
    if place == len(segments):
        yield node.here, values
        return
    segment = segments[place]
    if (literal := node.literal.get(segment)) is not None:
        yield from _walk(literal, segments, place + 1, values)
    if node.parameter is not None and segment:
        yield from _walk(node.parameter, segments, place + 1, (*values, segment))
    rest = "/".join(segments[place:])
    for suffix in sorted(node.rest, key=len, reverse=True):
        if rest.endswith(suffix):
            yield node.rest[suffix], (*values, rest.removesuffix(suffix))
