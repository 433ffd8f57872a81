"""Decides ahead of every route, the hot one included: who calls, whether they may, and how often.

If authentication is off, this costs one pass over the headers. A credential still says who the caller is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from celeriac.access.principal import LOCAL, Principal, PrincipalKind
from celeriac.access.principal import Scope as Need
from celeriac.errors import (
    AuthenticationError,
    CeleriacError,
    RateLimitedError,
    TaskNotFoundError,
    WorkflowNotFoundError,
)
from celeriac.settings import AccessSettings
from celeriac.store.audit import AuditLog
from celeriac_api.access.auditing import serve_audited
from celeriac_api.access.browsers import Browsers
from celeriac_api.access.caller import PRINCIPAL, address_of
from celeriac_api.access.credentials import Head, credential_of, read_head
from celeriac_api.access.limits import Buckets, OpenCounts, check_rate, network_of, principal_buckets
from celeriac_api.access.rights import KNOWN, Access
from celeriac_api.access.streaming import serve_while_valid
from celeriac_api.dispatch.completions import error_document
from celeriac_api.http.bodies import EncodedBodyError, RefusedBody, check_encoding, has_large_body
from celeriac_api.http.problems import RequestError, instance_of, problem_of
from celeriac_api.http.responses import json_response
from celeriac_api.parts import Parts, parts_in
from celeriac_api.routing import Found, method_of, path_of

log = logging.getLogger(__name__)

#: Path parameters that name a task.
_TASK_PARAMETERS: Final = ("task_id", "taskId")
#: The path parameters that name a workflow and an upload.
_WORKFLOW_PARAMETER: Final = "workflow_id"
_FILE_PARAMETER: Final = "file_id"
#: Where pages redirect a browser that has not signed in.
SIGN_IN: Final = "/sign-in"
#: A secret with fewer characters is too short for HS256 (RFC 7518, section 3.2).
_SHORT_SECRET: Final = 32
#: What the dispatch API (docs/dispatch.md) says about a task that does not exist.
_UNKNOWN: Final = "Task not found or expired"


class Guard:
    """Decides about each request of one application."""

    def __init__(self, access: AccessSettings, *, host: str) -> None:
        secret = access.jwt_secret
        if secret is not None and len(secret.get_secret_value()) < _SHORT_SECRET:
            log.warning(
                "JWT_SECRET is shorter than 32 characters, so it may be guessed: use at least 32 random characters"
            )
        self._on = access.on
        self._browsers = Browsers(access, host=host)
        self.dressed = self._browsers.dressed
        self._per_principal = principal_buckets(access, host=host)
        by_address = access.rate_limit_per_address
        self._per_address = Buckets(by_address, 2 * by_address) if by_address else None
        self._streams = OpenCounts(access.max_streams_per_principal)

    def plain(self, scope: Scope) -> bool:
        """Admit a request whose headers are all that has to be checked; returns False if it needs `admit`."""
        if self._on or self._per_principal or self._per_address:
            return False
        head = scope["celeriac.head"] = read_head(scope)
        if head.authorization or head.origin or head.fetch_site or head.api_key or head.cookie or head.encoded:
            return False
        try:
            self._browsers.check_host(head)
        except RequestError:
            return False
        scope[PRINCIPAL] = LOCAL
        return True

    def fixes_headers(self, scope: Scope) -> bool:
        """Admit a request as `plain` does, if the headers that its answer needs are those of `browsers.HEADERS`."""
        return self._browsers.adds_only_fixed_headers and self.plain(scope)

    async def admit(self, scope: Scope, found: Found | None) -> Response | None:
        """Return the refusal of a request, or None and put the caller into its scope; `found` is its route."""
        head = scope.get("celeriac.head") or read_head(scope)
        access = KNOWN
        try:
            self._browsers.check_host(head)
            if (answer := self._browsers.preflight(scope, head)) is not None:
                return answer
            address = address_of(scope)
            if self._per_address is not None:
                check_rate(self._per_address, network_of(address), "too many requests from this address")
            if found is not None and found.served:
                access = found.route.access
            principal = scope[PRINCIPAL] = await self._principal(scope, head, access, address)
            if found is None or not found.served:
                if self._on:
                    code = "not_found" if found is None else "method_not_allowed"
                    raise RequestError(code, f"there is nothing for {method_of(scope)} at {path_of(scope)[:200]}")
            elif head.encoded and scope["type"] == "http":
                check_encoding(scope)
            if principal is None or access.open:
                return None
            check_rate(self._per_principal, principal.name, "too many requests")
            if self._on and access.scope is not None:
                principal.demand(access.scope)
            if found is not None and found.served and not principal.admin:
                await self._check_owners(scope, principal, found.parameters)
        except CeleriacError as exc:
            return self._refusal(scope, head, access, exc)
        return None

    async def _check_owners(self, scope: Scope, principal: Principal, parameters: Mapping[str, str]) -> None:
        """Raise if a task or a file in the path belongs to another user."""
        parts = parts_in(scope)
        for name in _TASK_PARAMETERS:
            if (task_id := parameters.get(name)) is not None:
                await self._check_owner(parts, principal, task_id)
        if (workflow_id := parameters.get(_WORKFLOW_PARAMETER)) is not None:
            await self._check_workflow_owner(parts, principal, workflow_id)
        if (file_id := parameters.get(_FILE_PARAMETER)) is not None:
            await parts.files.check_owner(file_id, principal)

    async def _principal(self, scope: Scope, head: Head, access: Access, address: str) -> Principal | None:
        """Return the caller; None if nobody has to be known, or not yet. Raises `AuthenticationError`."""
        try:
            credential, by_browser = credential_of(scope, head, stream=access.stream)
        except AuthenticationError:
            if self._on and not access.open:
                raise
            credential, by_browser = None, False
        if by_browser or not self._on or access.open:
            self._browsers.check_origin(scope, head)
        if access.open:
            # An open route does not look at the credential, because the store may be unavailable.
            return None
        if credential is None:
            if not self._on:
                return LOCAL
            if access.first_message:
                return None
            raise AuthenticationError("show a credential: Authorization: Bearer TOKEN (see celeriac token)")
        try:
            counted = self._on or access.own
            known = await parts_in(scope).credentials.principal(credential, address, counted=counted)
            return self._with_rights(known)
        except AuthenticationError:
            if self._on or access.own:
                raise
            # Some clients always send a key, for another service. That is not a reason to refuse them here.
            return LOCAL

    def _with_rights(self, principal: Principal) -> Principal:
        """Return the principal; if authentication is off, it may do everything with its own tasks."""
        if self._on or principal.admin:
            return principal
        return Principal(
            principal.user_id,
            frozenset({Need.SUBMIT, Need.READ, Need.WORKER}),
            principal.kind,
            principal.credential,
            principal.expires_at,
        )

    async def _check_owner(self, parts: Parts, principal: Principal, task_id: str) -> None:
        """Raise `TaskNotFoundError` for another user's task, as for a task that does not exist.

        Raises `HistoryUnavailableError` if only the history could tell the owner, and it is unavailable.
        """
        known, owner = await parts.store.owner(task_id)
        if not known:
            try:
                owner = (await parts.tasks.kept(task_id)).task.user_id
            except TaskNotFoundError:
                return  # the route does not find it either
        if not principal.sees(owner):
            raise TaskNotFoundError(task_id)

    async def _check_workflow_owner(self, parts: Parts, principal: Principal, workflow_id: str) -> None:
        """Raise `WorkflowNotFoundError` for another user's workflow, as for one that does not exist."""
        if not principal.sees(await parts.workflows.owner(workflow_id)):
            raise WorkflowNotFoundError(workflow_id)

    def _refusal(self, scope: Scope, head: Head, access: Access, error: CeleriacError) -> Response:
        if isinstance(error, AuthenticationError) and access.page and scope["method"] in ("GET", "HEAD"):
            root = scope.get("root_path", "")
            return RedirectResponse(f"{root}{SIGN_IN}?next={quote(path_of(scope), safe='/')}", 303)
        answer = problem_of(error, instance_of(scope))
        status = answer.status_code
        if access.plain_errors and isinstance(error, EncodedBodyError):
            # Like every body that the routes of the dispatch API cannot read.
            document, status = {"error": f"Invalid request: {error}"}, 400
        elif access.plain_errors:
            document = {"error": _UNKNOWN if isinstance(error, TaskNotFoundError) else str(error)}
        elif access.openai_errors:
            kind = "rate_limit_error" if status == 429 else "invalid_request_error"
            code = "invalid_api_key" if isinstance(error, AuthenticationError) else error.code
            document = error_document(str(error), kind, code)
        else:
            return RefusedBody(answer) if isinstance(error, EncodedBodyError) else answer
        other = json_response(document, status)
        for name in ("retry-after", "www-authenticate", "accept-encoding"):
            if name in answer.headers:
                other.headers[name] = answer.headers[name]
        return RefusedBody(other) if isinstance(error, EncodedBodyError) else other

    async def serve_audited(self, app: ASGIApp, action: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with `app`, and record in the audit who made it."""
        await serve_audited(app, action, AuditLog(parts_in(scope).store), scope, receive, send)

    async def serve_stream(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a stream with `app`, as long as its credential is valid; bounds the streams of each caller."""
        principal: Principal | None = scope.get(PRINCIPAL)
        if principal is not None and principal.kind is PrincipalKind.LOCAL:
            await app(scope, receive, send)
            return
        caller = principal.name if principal is not None else address_of(scope)
        if not self._streams.enter(caller):
            message = f"you have {self._streams.limit} event streams and WebSockets open, which is the limit: close one"
            exc = RateLimitedError(message, retry_after_s=5.0)
            await refuse(problem_of(exc, instance_of(scope)), scope, receive, send)
            return
        try:
            await serve_while_valid(app, parts_in(scope).authenticator, scope, receive, send)
        finally:
            self._streams.leave(caller)


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a refusal. A WebSocket is refused before it is accepted."""
    if scope["type"] != "websocket":
        if has_large_body(scope) and not isinstance(response, RefusedBody):
            response = RefusedBody(response)
        await response(scope, receive, send)
        return
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return

    await response(scope, receive, send)
