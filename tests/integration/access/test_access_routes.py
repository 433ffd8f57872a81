"""Every route of the application, tried with no credential, a wrong scope, and as somebody else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute

from celeriac.access.principal import Scope
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_api.access.rights import ADMIN, KNOWN, READ, STREAM, Access
from celeriac_api.app import create_app
from celeriac_api.routing import WEBSOCKET, Router, RouteTable
from tests.kit.api.access import client_of, header, settings_of
from tests.kit.api.http_serving import ROUTES
from tests.kit.servers import free_port
from tests.kit.tokens import token_of

HTTP_ROUTES = [line for line in ROUTES if not line.startswith(WEBSOCKET)]


def filled(line: str, value: str) -> tuple[str, str]:
    method, _, path = line.partition(" ")
    return method, re.sub(r"\{[^}]+\}", value, path)


def test_every_route_of_the_application_is_in_the_table() -> None:
    app = create_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    served = set()
    for context in iter_route_contexts(app.routes):
        methods = context.methods or {WEBSOCKET}
        served |= {f"{method} {context.path}" for method in methods}
    assert served == set(ROUTES)
    assert len(served) >= 80


def test_a_route_that_declares_no_access_is_refused() -> None:
    app = create_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    for route in (
        Route("/open", lambda _: Response()),
        Mount("/files", Response()),
        WebSocketRoute("/talk", Response()),
    ):
        with pytest.raises(TypeError, match=r"declares no access"):
            RouteTable([*app.routes, route])
    with pytest.raises(TypeError, match="access"):
        Router().get("/open")  # type: ignore[call-arg]


def declared(**routes: Access) -> RouteTable:
    router = Router()
    for line, access in routes.items():
        method, _, path = line.partition(" ")
        getattr(router, method.lower())(path, access=access)(_answer)
    return RouteTable(router.routes)


async def _answer() -> Response:
    return Response()


def test_what_a_path_needs_is_found_as_the_router_finds_it() -> None:
    table = declared(**{"GET /a/{x}": KNOWN, "POST /a/b": ADMIN, "GET /g/{name:path}": READ, "GET /s": STREAM})
    found = table.find("GET", "/a/b")
    assert found is not None
    assert (found.route.access, found.parameters, found.served) == (KNOWN, {"x": "b"}, True)
    assert table.find("GET", "/g/a/b").parameters == {"name": "a/b"}  # type: ignore[union-attr]
    assert table.find("DELETE", "/a/b").served is False  # type: ignore[union-attr]
    for path in ("/", "/a", "/a/", "/a/b/c", "//a/b", "/A/b", ""):
        assert table.find("GET", path) is None, path
    assert table.methods("/a/b") == {"GET", "HEAD", "POST"}
    assert table.methods("/s") == {"GET"}
    for path, of_get in (("/a/b", True), ("/g/c", True), ("/s", False)):
        head = table.find("HEAD", path)
        assert head is not None
        assert (head.served, head.head_of_get) == (True, of_get), path


def test_the_route_that_was_declared_first_is_found_first() -> None:
    suffixed = declared(**{"POST /g/{name:path}/pause": KNOWN.audited("p"), "POST /g/{name:path}": KNOWN.audited("g")})
    for path, action, name in (("/g/a/pause", "p", "a"), ("/g/a/b", "g", "a/b")):
        known = suffixed.find("POST", path)
        assert known is not None
        assert known.route.access.action == action
        assert known.parameters == {"name": name}
    hidden = declared(**{"GET /a/{x}": KNOWN, "GET /a/b": ADMIN})
    assert hidden.find("GET", "/a/b").route.access == KNOWN  # type: ignore[union-attr]


async def test_no_route_but_the_open_ones_answers_a_stranger(valkey_url: str, tmp_path: Path) -> None:
    async with client_of(settings_of(valkey_url, tmp_path)) as client:
        for line in HTTP_ROUTES:
            method, path = filled(line, "x")
            answer = await client.request(method, path)
            if ROUTES[line].open:
                assert answer.status_code not in (401, 403) or path == "/sign-in", line
            elif ROUTES[line].page:
                assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in"), line
            else:
                assert answer.status_code == 401, line
                assert answer.headers["www-authenticate"].startswith("Bearer"), line
            assert answer.headers["x-content-type-options"] == "nosniff", line
            assert answer.headers["x-frame-options"] == "DENY", line
            assert "content-security-policy" in answer.headers, line
        assert (await client.get("/nothing/here")).status_code == 401


async def test_every_route_demands_its_scope(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path)
    async with client_of(settings) as client:
        for line in HTTP_ROUTES:
            access = ROUTES[line]
            if access.open or access.scope is None:
                continue
            others = [scope for scope in Scope if scope not in (access.scope, Scope.ADMIN)]
            method, path = filled(line, "x")
            answer = await client.request(method, path, headers=header(settings, "7", *others))
            assert answer.status_code == 403, line
            if method != "HEAD" and not access.plain_errors:
                told = answer.json()["error"] if access.openai_errors else answer.json()
                assert told["code"] == "forbidden", line
        unknown = await client.get("/nothing/here", headers=header(settings, "7", Scope.ADMIN))
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
        wrong = await client.delete("/api/v1/tasks", headers=header(settings, "7", Scope.ADMIN))
        assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")


async def test_what_is_somebody_elses_is_not_there(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path)
    plain = (Scope.READ, Scope.SUBMIT, Scope.WORKER)
    mine, theirs = header(settings, "7", *plain), header(settings, "8", *plain)
    async with client_of(settings) as client:
        submitted = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}}, headers=mine)
        task_id = submitted.json()["task_id"]
        upload = await client.post("/api/v1/files?filename=a.txt", content=b"text", headers=mine)
        file_id = upload.json()["file_id"]
        tried = 0
        for line in HTTP_ROUTES:
            access = ROUTES[line]
            if "{task_id}" in line or "{taskId}" in line:
                method, path = filled(line, task_id)
            elif "{file_id}" in line and "files" in line:
                method, path = filled(line, file_id)
            else:
                continue
            if access.scope is Scope.ADMIN:
                continue
            answer = await client.request(method, path, headers=theirs)
            assert answer.status_code == 404, line
            tried += 1
        assert tried >= 10
        for credential in (mine, header(settings, "root", Scope.ADMIN)):
            assert (await client.get(f"/api/v1/tasks/{task_id}", headers=credential)).status_code == 200
            assert (await client.get(f"/api/v1/files/{file_id}", headers=credential)).status_code == 200
        stolen = {"type": "file_process", "payload": {"processor": "checksum", "file_id": file_id}}
        for document in (stolen, {**stolen, "payload": {"processor": "checksum", "path": upload.json()["path"]}}):
            answer = await client.post("/api/v1/tasks", json=document, headers=theirs)
            assert answer.status_code == 422, answer.text
            batch = await client.post("/api/v1/tasks/batch", json={"tasks": [document]}, headers=theirs)
            assert batch.json()["results"][0]["status"] == 422
        assert (await client.post("/api/v1/tasks", json=stolen, headers=mine)).status_code == 202


async def test_while_nobody_can_say_whose_a_task_is_it_is_shown_to_admins_only(valkey_url: str, tmp_path: Path) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/away"
    settings = settings_of(valkey_url, tmp_path).model_copy(update={"database_url": away})
    plain = header(settings, "7", Scope.READ, Scope.SUBMIT)
    async with client_of(settings) as client:
        submitted = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}}, headers=plain)
        own = await client.get(f"/api/v1/tasks/{submitted.json()['task_id']}", headers=plain)
        assert own.status_code == 200
        lines = [line for line in HTTP_ROUTES if "{task_id}" in line or "{taskId}" in line]
        for line in lines:
            method, path = filled(line, "let-go-by-the-store")
            assert (await client.request(method, path, headers=plain)).status_code == 503, line


async def test_a_submission_is_its_callers_own(valkey_url: str, tmp_path: Path, store: TaskStore) -> None:
    settings = settings_of(valkey_url, tmp_path)
    document = {"type": "http_test.echo", "payload": {}, "user_id": "8"}
    bulk = {"type": "celeriac.bulk", "payload": {"action": "cancel", "filter": {"user_id": "8", "status": "pending"}}}
    async with client_of(settings) as client:
        mine = header(settings, "7", Scope.SUBMIT)
        first = await client.post("/api/v1/tasks", json=document, headers=mine)
        assert (await store.get(first.json()["task_id"])).user_id == "7"
        batch = await client.post("/api/v1/tasks/batch", json={"tasks": [document, bulk]}, headers=mine)
        one, many = (item["task_id"] for item in batch.json()["results"])
        assert (await store.get(one)).user_id == "7"
        assert (await store.get(many)).payload["filter"]["user_id"] == "7"
        admin = header(settings, "root", Scope.ADMIN)
        for said, kept in (("8", "8"), (None, "root")):
            answer = await client.post("/api/v1/tasks", json={**document, "user_id": said}, headers=admin)
            assert (await store.get(answer.json()["task_id"])).user_id == kept


async def test_without_authentication_a_token_still_says_who_calls(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path, jwt_secret=None)
    async with client_of(settings) as client:
        document = {"type": "http_test.echo", "payload": {}}
        task_id = (await client.post("/api/v1/tasks", json=document)).json()["task_id"]
        assert (await client.get(f"/api/v1/tasks/{task_id}", headers=header(settings))).status_code == 404
        own = (await client.post("/api/v1/tasks", json=document, headers=header(settings))).json()["task_id"]
        assert (await client.get(f"/api/v1/tasks/{own}", headers=header(settings))).json()["user_id"] == "7"
        by_habit = {"Authorization": "Bearer sk-of-another-service"}
        assert (await client.get(f"/api/v1/tasks/{task_id}", headers=by_habit)).status_code == 200


@pytest.mark.parametrize("on", [True, False])
async def test_pages_of_other_sites_can_do_nothing_here(valkey_url: str, tmp_path: Path, on: bool) -> None:
    settings = settings_of(valkey_url, tmp_path, enabled=on)
    async with client_of(settings) as client:
        token = token_of(settings, user_id="7", scopes=list(Scope))
        cookie = {"Cookie": f"celeriac_session={token}"} if on else {}
        document = {"type": "http_test.echo", "payload": {}}
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await client.post("/api/v1/tasks", json=document, headers={**cookie, **headers})
            assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
        own = {"Origin": str(client.base_url), "Sec-Fetch-Site": "same-origin"}
        assert (await client.post("/api/v1/tasks", json=document, headers={**cookie, **own})).status_code == 202
        rebound = await client.get("/api/v1/tasks/x", headers={**cookie, "Host": "evil.example"})
        assert rebound.status_code == (404 if on else 421)
        preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        refused = await client.options("/api/v1/tasks", headers=preflight)
        assert refused.status_code == 404
        assert "access-control-allow-origin" not in refused.headers


async def test_a_page_of_an_allowed_origin_may_call_with_a_token(valkey_url: str, tmp_path: Path) -> None:
    origin = "https://app.example.com"
    settings = settings_of(valkey_url, tmp_path, cors_origins=[origin])
    async with client_of(settings) as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        allowed = await client.options("/api/v1/tasks", headers=asked)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, origin)
        assert "access-control-allow-credentials" not in allowed.headers
        headers = {"Origin": origin, **header(settings, "7", Scope.SUBMIT)}
        answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}}, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, origin)
        other = await client.options("/api/v1/tasks", headers={**asked, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
