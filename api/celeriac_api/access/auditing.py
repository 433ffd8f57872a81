"""Records who did what: each request to a route that declares an action, before its answer is sent."""

from __future__ import annotations

import logging
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac.access.principal import Principal
from celeriac.errors import CeleriacError
from celeriac.store.audit import AuditEntry, AuditLog
from celeriac_api.access.caller import PRINCIPAL, address_of
from celeriac_api.http.problems import instance_of

log = logging.getLogger(__name__)

#: Where a route says in the request's scope what the audit calls this request, if that differs from others.
ACTION: Final = "celeriac.audited_action"


async def serve_audited(app: ASGIApp, action: str, audit: AuditLog, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request, and record in the audit how it ended."""

    async def send_audited(message: Message) -> None:
        if message["type"] == "http.response.start":
            await _write(scope.get(ACTION, action), audit, scope, message["status"])
        await send(message)

    await app(scope, receive, send_audited)


async def _write(action: str, audit: AuditLog, scope: Scope, status: int) -> None:
    principal: Principal | None = scope.get(PRINCIPAL)
    entry = AuditEntry(
        actor=principal.name if principal is not None else "",
        action=action,
        target=instance_of(scope),
        status=str(status),
        address=address_of(scope),
        credential=principal.credential if principal is not None else "",
    )
    try:
        await audit.write(entry)
    except CeleriacError as exc:
        # The action has happened, so the answer must say so. The log line replaces the entry.
        log.error("the audit could not record %s: %s", entry, exc)
