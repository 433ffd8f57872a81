"""`/a/TOKEN`: a page that asks one question of a task, for people who have not signed in.

The token is the permission (`ctx.signal_link`). A GET changes nothing, so that programs which follow links in mails do
no harm. A POST answers, once: with a JSON value, or with the page's own form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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
from celeriac_api.pages.texts import catalogue, keep_language, language_of, text
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routing import Router

router = Router(include_in_schema=False)

_FORM: Final = b"application/x-www-form-urlencoded"
#: Fields of a form that are read.
_MOST_FIELDS: Final = 1000
#: Why a question is over, as keys of the catalogue.
_OVER: Final[Mapping[type[CeleriacError], str]] = {
    SignalReceivedError: "answer.answered",
    TaskEndedError: "answer.closed",
    TaskNotFoundError: "answer.closed",
}
_UNKNOWN: Final = "answer.unknown"
_TIME_OVER: Final = "answer.time_over"


class LinkError(RequestError):
    """A link leads to no question that can be answered; `key` is the text that says why."""

    def __init__(self, code: str, key: str) -> None:
        self.key = key
        # Problem details are English; a page has the text in the reader's language.
        super().__init__(code, text("en", key))


@router.get(PATH + "/{token}", access=OPEN)
async def show(token: str, request: Request, parts: PartsOf) -> Response:
    """Show the question with its form."""
    language = language_of(request)
    try:
        link = await _link(token, request, parts)
        wait = await _open_wait(link, parts)
    except CeleriacError as exc:
        page = _refusal(language, exc)
    else:
        page = _not_asked(language) if wait is None else _question(language, wait)
    return keep_language(request, page)


@router.post(PATH + "/{token}", access=OPEN.audited("task.signal"))
async def answer(token: str, request: Request, parts: PartsOf) -> Response:
    """Answer the question, and say so: JSON to programs, a page to people."""
    # The front door bounds the body and the time that it may take, as on every open route.
    body = await request.body()
    language = language_of(request)
    content_type = request.headers.get("content-type", "application/json").encode("latin-1")
    by_form = content_type.split(b";", 1)[0].strip().lower() == _FORM
    wait: Wait | None = None
    filled: dict[str, list[str]] = {}
    try:
        link = await _link(token, request, parts)
        if by_form:
            wait = await _open_wait(link, parts)
            if wait is None:
                return _not_asked(language, 409)
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
        error = LinkError("link_used", _OVER[type(exc)])
    except CeleriacError as exc:
        error = exc
    else:
        if by_form:
            return _said(language, "answer.thanks", "answer.received", 202)
        document = {"task_id": link.task_id, "signal": link.signal, "received_at": rfc3339(received)}
        return json_response(document, 202)
    if not by_form:
        return problem_of(error, instance_of(request.scope))
    if isinstance(error, InvalidSubmissionError) and wait is not None:
        return _question(language, wait, filled, error.violations)
    return _refusal(language, error)


async def _link(token: str, request: Request, parts: Parts) -> SignalLink:
    """Return what a token is for; raises `RequestError` for an unknown one, and for one whose time is over."""
    link = read_token(await link_secret(parts.store), token)
    # In place: a problem, the audit and the server's log name the path, and the token is not for them.
    shown = f"{PATH}/…" if link is None else f"{PATH}/…/{link.task_id}/{link.signal}"
    request.scope["path"], request.scope["raw_path"] = shown, shown.encode()
    if link is None:
        raise LinkError("not_found", _UNKNOWN)
    if link.valid_until_ms <= await server_ms(parts.store):
        raise LinkError("link_used", _TIME_OVER)
    return link


async def _open_wait(link: SignalLink, parts: Parts) -> Wait | None:
    """Return what the task asks; None if it does not ask it yet. Raises `RequestError` once that is over."""
    try:
        return await parts.tasks.signals.open_wait(link.task_id, link.signal)
    except (SignalReceivedError, TaskEndedError, TaskNotFoundError) as exc:
        raise LinkError("link_used", _OVER[type(exc)]) from exc


def _filled(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as exc:
        raise RequestError("bad_request", f"the form cannot be read: {exc}") from exc


def _question(
    language: str,
    wait: Wait,
    filled: Mapping[str, Sequence[str]] | None = None,
    violations: Sequence[Violation] = (),
) -> Response:
    title = wait.title or wait.signal
    fields = fields_of(wait.schema)
    labels = {one.name: one.label for one in fields}
    errors = "".join(
        f"<li>{escape(f'{labels.get(one.field, one.field)}: {one.message}' if one.field else one.message)}</li>"
        for one in violations
    )
    told = f'<ul class="error" role="alert">{errors}</ul>' if errors else ""
    until = "" if wait.expires_at is None else f"<p>{escape(_until(language, wait.expires_at))}</p>"
    # The form has no action, so it goes to the address of the page.
    body = f'<h1>{escape(title)}</h1>{until}{told}<form method="post">{form_html(fields, filled, language)}</form>'
    return plain_page(title, body, 422 if violations else 200, language)


def _until(language: str, moment: datetime) -> str:
    at = moment.astimezone(UTC)
    written = f"{at:%Y年%-m月%-d日 %H:%M}" if language == "zh" else f"{at:%-d %B %Y, %H:%M}"
    return text(language, "answer.until", moment=written)


def _not_asked(language: str, status: int = 200) -> Response:
    return _said(language, "answer.not_yet", "answer.not_yet_about", status)


def _said(language: str, title: str, about: str, status: int) -> Response:
    said, more = catalogue(language)[title], catalogue(language)[about]
    return plain_page(said, f"<h1>{escape(said)}</h1><p>{escape(more)}</p>", status, language)


def _refusal(language: str, error: CeleriacError) -> Response:
    row = row_of(error)
    title, said = row.title, str(error)
    if isinstance(error, LinkError):
        title, said = text(language, f"answer.problem.{error.code}"), text(language, f"{error.key}")
    elif row.http >= 500:
        title = text(language, "answer.unavailable")
        said = said if row.http == 503 else text(language, "answer.internal")
    body = f'<h1>{escape(title)}</h1><p role="alert">{escape(said)}</p>'
    return plain_page(title, body, row.http, language)
