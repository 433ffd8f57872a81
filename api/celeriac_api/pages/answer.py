"""`/a/TOKEN`: a page that asks one question of a task, for people who have not signed in.

The token is the permission (`ctx.signal_link`). A GET changes nothing, so that programs which follow links in mails do
no harm. A POST answers, once: with a JSON value, or with the page's own form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from typing import Final
from urllib.parse import parse_qs

from fastapi import Request
from starlette.responses import Response

from celeriac import json_text
from celeriac.errors import (
    CeleriacError,
    InvalidSubmissionError,
    JsonError,
    SignalReceivedError,
    TaskEndedError,
    TaskNotFoundError,
    Violation,
)
from celeriac.model import rfc3339
from celeriac.signals.links import PATH, SignalLink, read_token
from celeriac.signals.records import Wait
from celeriac.store.link_secret import link_secret
from celeriac.store.watching.standings import server_ms
from celeriac_api.access.rights import OPEN
from celeriac_api.http.bodies import is_json
from celeriac_api.http.problems import RequestError, instance_of, problem_of, row_of
from celeriac_api.http.responses import json_response
from celeriac_api.pages.answer_form import fields_of, form_html, value_of
from celeriac_api.pages.plain_page import plain_page
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routing import Router

router = Router(include_in_schema=False)

_FORM: Final = b"application/x-www-form-urlencoded"
#: Fields of a form that are read.
_MOST_FIELDS: Final = 1000
_TEXTS: Final[Mapping[type[CeleriacError], str]] = {
    SignalReceivedError: "This question has been answered.",
    TaskEndedError: "This question is no longer open.",
    TaskNotFoundError: "This question is no longer open.",
}


@router.get(PATH + "/{token}", access=OPEN)
async def show(token: str, request: Request, parts: PartsOf) -> Response:
    """Show the question with its form."""
    try:
        link = await _link(token, request, parts)
        wait = await _open_wait(link, parts)
    except CeleriacError as exc:
        return _refusal(exc)
    return _not_asked() if wait is None else _question(wait)


@router.post(PATH + "/{token}", access=OPEN.audited("task.signal"))
async def answer(token: str, request: Request, parts: PartsOf) -> Response:
    """Answer the question, and say so: JSON to programs, a page to people."""
    # The front door bounds the body and the time that it may take, as on every open route.
    body = await request.body()
    content_type = request.headers.get("content-type", "application/json").encode("latin-1")
    by_form = content_type.split(b";", 1)[0].strip().lower() == _FORM
    wait: Wait | None = None
    filled: dict[str, list[str]] = {}
    try:
        link = await _link(token, request, parts)
        if by_form:
            wait = await _open_wait(link, parts)
            if wait is None:
                return _not_asked(409)
            filled = _filled(body)
            value = value_of(fields_of(wait.schema), filled, wait.schema)
        elif is_json(content_type):
            value = json_text.read(body, "the body")
        else:
            raise RequestError("unsupported_media_type", "send a JSON value with Content-Type: application/json")
        received = await parts.tasks.signals.send(link.task_id, link.signal, value)
    except JsonError as exc:
        error: CeleriacError = RequestError("malformed_json", str(exc))
    except (SignalReceivedError, TaskEndedError, TaskNotFoundError) as exc:
        error = RequestError("link_used", _TEXTS[type(exc)])
    except CeleriacError as exc:
        error = exc
    else:
        if by_form:
            return plain_page("Thank you", "<h1>Thank you</h1><p>Your answer has been received.</p>", 202)
        document = {"task_id": link.task_id, "signal": link.signal, "received_at": rfc3339(received)}
        return json_response(document, 202)
    if not by_form:
        return problem_of(error, instance_of(request.scope))
    if isinstance(error, InvalidSubmissionError) and wait is not None:
        return _question(wait, filled, error.violations)
    return _refusal(error)


async def _link(token: str, request: Request, parts: Parts) -> SignalLink:
    """Return what a token is for; raises `RequestError` for an unknown one, and for one whose time is over."""
    link = read_token(await link_secret(parts.store), token)
    # In place: a problem, the audit and the server's log name the path, and the token is not for them.
    shown = f"{PATH}/…" if link is None else f"{PATH}/…/{link.task_id}/{link.signal}"
    request.scope["path"], request.scope["raw_path"] = shown, shown.encode()
    if link is None:
        raise RequestError("not_found", "There is no such question. Check that you copied the whole link.")
    if link.valid_until_ms <= await server_ms(parts.store):
        raise RequestError("link_used", "The time of this link is over.")
    return link


async def _open_wait(link: SignalLink, parts: Parts) -> Wait | None:
    """Return what the task asks; None if it does not ask it yet. Raises `RequestError` once that is over."""
    try:
        return await parts.tasks.signals.open_wait(link.task_id, link.signal)
    except (SignalReceivedError, TaskEndedError, TaskNotFoundError) as exc:
        raise RequestError("link_used", _TEXTS[type(exc)]) from exc


def _filled(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as exc:
        raise RequestError("bad_request", f"the form cannot be read: {exc}") from exc


def _question(
    wait: Wait, filled: Mapping[str, Sequence[str]] | None = None, violations: Sequence[Violation] = ()
) -> Response:
    title = wait.title or wait.signal
    fields = fields_of(wait.schema)
    labels = {one.name: one.label for one in fields}
    errors = "".join(
        f"<li>{escape(f'{labels.get(one.field, one.field)}: {one.message}' if one.field else one.message)}</li>"
        for one in violations
    )
    told = f'<ul class="error" role="alert">{errors}</ul>' if errors else ""
    until = "" if wait.expires_at is None else f"<p>Until {wait.expires_at.astimezone(UTC):%-d %B %Y, %H:%M} UTC</p>"
    # The form has no action, so it goes to the address of the page.
    body = f'<h1>{escape(title)}</h1>{until}{told}<form method="post">{form_html(fields, filled)}</form>'
    return plain_page(title, body, 422 if violations else 200)


def _not_asked(status: int = 200) -> Response:
    body = "<h1>Not yet</h1><p>The task does not ask this question yet. Reload this page in a moment.</p>"
    return plain_page("Not yet", body, status)


def _refusal(error: CeleriacError) -> Response:
    row = row_of(error)
    text = str(error) if row.http < 500 or row.http == 503 else "The server has an internal error."
    return plain_page(row.title, f'<h1>{escape(row.title)}</h1><p role="alert">{escape(text)}</p>', row.http)
