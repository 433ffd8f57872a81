"""Task control (docs/schedules.md): definitions at `/tasks` and, with more routes, below `/api/v1/definitions`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import Header, Path, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from celeriac import json_text
from celeriac.access.principal import Principal
from celeriac.database.cursor import BadCursorError
from celeriac.errors import DefinitionNotFoundError, ForbiddenError, InvalidSubmissionError, JsonError, Violation
from celeriac.schedules.definition import DefinitionStatus, TaskTriggerType
from celeriac.schedules.editing import named_type
from celeriac.schedules.record import (
    change_record,
    definition_record,
    firing_record,
    instance_record,
    preview_records,
    run_record,
)
from celeriac.schedules.request import BackfillRequest, MoveRequest
from celeriac.schedules.service import MAX_PREVIEW, CurrentDefinition, Schedules
from celeriac.tasks.request import IDEMPOTENCY_KEY
from celeriac.violations import check_field_count, violations_of
from celeriac_api.access.caller import principal_in
from celeriac_api.access.rights import READ, SUBMIT
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.definition_schemas import (
    Backfill,
    DefinitionChanges,
    DefinitionDetail,
    DefinitionPage,
    DefinitionRecord,
    InstancePage,
    Preview,
    TriggeredInstance,
)
from celeriac_api.openapi.problem_examples import DEFINITION_ID
from celeriac_api.openapi.responses import json_body, location, problems
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routing import Router

PATH: Final = "/api/v1/definitions"
router = Router(tags=["definitions"])

#: How many next and last runs a definition is shown with.
_SHOWN: Final = 10

DefinitionId = Annotated[
    str, Path(description="The id in the answer to the definition's creation.", examples=[DEFINITION_ID])
]
_Limit = Annotated[int, Query(ge=1, le=500, description="Items per page.")]
_Count = Annotated[int, Query(ge=1, le=MAX_PREVIEW, description="The number of firings.")]
_Cursor = Annotated[str | None, Query(max_length=1000, description="The `next_cursor` of the previous page.")]
_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=f"^{IDEMPOTENCY_KEY.pattern}$",
        description="Identifies this request, so that it can be sent again.",
    ),
]
_AWAY: Final = ("store_unavailable", "ledger_missing", "ledger_unavailable")
_READ: Final = problems("definition_not_found", *_AWAY)
_PAGE: Final = problems("definition_not_found", "invalid_request", *_AWAY)
_CHECK: Final = problems("malformed_json", "invalid_request", "invalid_submission", *_AWAY)
_PLACE: Final = location("the definition", f"{PATH}/{DEFINITION_ID}")

_M = TypeVar("_M", bound=BaseModel)


class _Move(Protocol):
    """A method of `Schedules` that takes a note."""

    def __call__(
        self, schedules: Schedules, definition_id: str, /, *, actor: str, note: str | None
    ) -> Awaitable[CurrentDefinition]: ...


_CREATE: Final[dict[str, Any]] = {
    "access": SUBMIT.audited("definition.create"),
    "status_code": 201,
    "summary": "Create a definition",
    "response_model": DefinitionRecord,
    "response_description": "The definition is stored.",
    "responses": {
        200: {
            "model": DefinitionRecord,
            "description": "The idempotency key is known: this is the definition of the first request.",
            "headers": _PLACE,
        },
        201: {"headers": _PLACE},
        **_CHECK,
    },
    "openapi_extra": json_body("DefinitionRequest"),
}
_LOOK: Final[dict[str, Any]] = {
    "access": READ,
    "summary": "Read a definition",
    "response_model": DefinitionDetail,
    "responses": _READ,
}
_INSTANCES: Final[dict[str, Any]] = {
    "access": READ,
    "summary": "List a definition's instances",
    "response_model": InstancePage,
    "responses": _PAGE,
}
_MOVE: Final[dict[str, Any]] = {
    "response_model": DefinitionRecord,
    "response_description": "The definition after the change.",
    "responses": problems(
        "malformed_json", "definition_not_found", "illegal_definition_move", "invalid_submission", *_AWAY
    ),
    "openapi_extra": json_body("MoveRequest", required=False),
}
_PAUSE: Final = {"access": SUBMIT.audited("definition.pause"), "summary": "Pause a definition", **_MOVE}
_RESUME: Final = {"access": SUBMIT.audited("definition.resume"), "summary": "Resume a definition", **_MOVE}
_CANCEL: Final = {"access": SUBMIT.audited("definition.cancel"), "summary": "Cancel a definition", **_MOVE}
_TRIGGER: Final[dict[str, Any]] = {
    "access": SUBMIT.audited("definition.trigger"),
    "status_code": 202,
    "summary": "Run an instance now",
    "response_model": TriggeredInstance,
    "response_description": "The instance is created, or another task holds its key of `once`: then it has its id.",
    "responses": problems("definition_not_found", "illegal_definition_move", "duplicate", "invalid_request", *_AWAY),
}

# --- create and read


@router.post("/tasks", operation_id="create_task_definition", **_CREATE)
@router.post(PATH, **_CREATE)
async def create_definition(request: Request, parts: PartsOf, key: _Key = None) -> Response:
    """Store a definition. An `IMMEDIATE` one runs at once."""
    caller = principal_in(request.scope)
    document = await _document(request)
    document = await _confined(document, caller, parts)
    # The caller's own id keeps its form: 7 stays a number.
    if not caller.admin and isinstance(document, dict) and str(document.get("user_id")) != caller.user_id:
        document = {**document, "user_id": caller.user_id}
    seen, created = await parts.schedules.create(document, actor=caller.name, key=key, maker=caller.group_maker)
    location = {"Location": f"{PATH}/{seen.definition.definition_id}"}
    return json_response(_record(seen, request), 201 if created else 200, location)


@router.get(
    PATH,
    access=READ,
    summary="List definitions",
    response_model=DefinitionPage,
    responses=problems("invalid_request", *_AWAY),
)
async def list_definitions(
    request: Request,
    parts: PartsOf,
    user_id: Annotated[str | None, Query(max_length=256, description="Only definitions of this user.")] = None,
    status: Annotated[list[DefinitionStatus] | None, Query(description="One status or several.")] = None,
    group: Annotated[str | None, Query(max_length=256, description="Only definitions of this group.")] = None,
    trigger_type: Annotated[
        TaskTriggerType | None, Query(description="Only definitions with this kind of trigger.")
    ] = None,
    id_prefix: Annotated[str | None, Query(max_length=256, description="How the id begins.")] = None,
    source: Annotated[
        str | None, Query(description="`api`, `code` for `@task(schedule=...)`, `celery` for `beat_schedule`.")
    ] = None,
    next_runs: Annotated[
        int, Query(ge=0, le=_SHOWN, description="Show so many coming firings of each, as its preview does.")
    ] = 0,
    last_runs: Annotated[int, Query(ge=0, le=50, description="Show so many past instances of each, in short.")] = 0,
    limit: _Limit = 50,
    cursor: _Cursor = None,
) -> Response:
    """Answer with a page of definitions, the newest first.

    With a filter by `ACTIVE` or `RUNNING` a page may be shorter than `limit`; only `next_cursor` shows the end.
    """
    caller = principal_in(request.scope)
    return await _list(
        parts,
        user_id=user_id if caller.admin else caller.user_id or "",
        statuses=tuple(status or ()),
        group=group,
        trigger_type=trigger_type,
        source=source,
        id_prefix=id_prefix,
        next_runs=next_runs,
        last_runs=last_runs,
        limit=limit,
        cursor=cursor,
    )


@router.get(
    "/users/{user_id}/tasks",
    access=READ,
    summary="List a user's definitions",
    response_model=DefinitionPage,
    responses=problems("invalid_request", *_AWAY),
)
async def list_definitions_of_user(
    request: Request,
    user_id: Annotated[str, Path(description="Whose.", examples=["7"])],
    parts: PartsOf,
    status: Annotated[list[DefinitionStatus] | None, Query(description="One status or several.")] = None,
    limit: _Limit = 50,
    cursor: _Cursor = None,
) -> Response:
    """Answer with a page of the user's definitions, the newest first.

    With a filter by `ACTIVE` or `RUNNING` a page may be shorter than `limit`; only `next_cursor` shows the end.
    """
    caller = principal_in(request.scope)
    if not caller.sees(user_id):
        raise ForbiddenError("only an admin may list the definitions of other users")
    return await _list(parts, user_id=user_id, statuses=tuple(status or ()), limit=limit, cursor=cursor)


@router.post(
    f"{PATH}/preview",
    access=READ,
    summary="Preview a trigger",
    response_model=Preview,
    responses=_CHECK,
    openapi_extra=json_body("TriggerFields"),
)
async def preview_trigger(request: Request, parts: PartsOf, count: _Count = _SHOWN) -> Response:
    """Answer with the next firings of a trigger, without saving it: `trigger_type`, `trigger_args`, bounds, jitter."""
    table, slots = await parts.schedules.preview_of(await _document(request), count)
    return json_response({"items": preview_records(table, slots)})


@router.get("/tasks/{task_def_id}", operation_id="read_task_definition", **_LOOK)
@router.get(f"{PATH}/{{task_def_id}}", **_LOOK)
async def read_definition(request: Request, task_def_id: DefinitionId, parts: PartsOf) -> Response:
    """Answer with the definition, its next ten firings and its last ten instances."""
    schedules = await _owned(request, parts, task_def_id)
    seen = await schedules.get(task_def_id)
    table, slots = await schedules.preview(task_def_id, _SHOWN)
    last, _ = await schedules.instances(task_def_id, limit=_SHOWN)
    paused = seen.definition.status is DefinitionStatus.PAUSED
    return json_response(
        {
            **_record(seen, request),
            "next_runs": [] if paused else preview_records(table, slots),
            "last_runs": [instance_record(task, task_def_id) for task in last],
        }
    )


@router.get("/tasks/{task_def_id}/instances", operation_id="list_task_definition_instances", **_INSTANCES)
@router.get(f"{PATH}/{{task_def_id}}/instances", operation_id="list_definition_instances", **_INSTANCES)
async def list_instances(
    request: Request, task_def_id: DefinitionId, parts: PartsOf, limit: _Limit = 50, cursor: _Cursor = None
) -> Response:
    """Answer with a page of instances, the newest first."""
    schedules = await _owned(request, parts, task_def_id)
    try:
        tasks, following = await schedules.instances(task_def_id, limit=limit, cursor=cursor)
    except BadCursorError as exc:
        raise _bad_cursor(exc) from exc
    return json_response({"items": [instance_record(t, task_def_id) for t in tasks], "next_cursor": following})


@router.get(
    f"{PATH}/{{task_def_id}}/preview",
    access=READ,
    summary="Preview a definition's next firings",
    response_model=Preview,
    responses=_PAGE,
)
async def preview_definition(
    request: Request,
    task_def_id: DefinitionId,
    parts: PartsOf,
    count: _Count = _SHOWN,
) -> Response:
    """Answer with the next firings; for a paused definition with those that it would have."""
    schedules = await _owned(request, parts, task_def_id)
    table, slots = await schedules.preview(task_def_id, count)
    return json_response({"items": preview_records(table, slots)})


@router.get(
    f"{PATH}/{{task_def_id}}/changes",
    access=READ,
    summary="Read a definition's audit trail",
    response_model=DefinitionChanges,
    responses=_PAGE,
)
async def list_definition_changes(
    request: Request, task_def_id: DefinitionId, parts: PartsOf, limit: _Limit = 50, cursor: _Cursor = None
) -> Response:
    """Answer with who did what, the newest first."""
    schedules = await _owned(request, parts, task_def_id)
    try:
        found, following = await schedules.definitions.changes(task_def_id, limit=limit, cursor=cursor)
    except BadCursorError as exc:
        raise _bad_cursor(exc) from exc
    return json_response({"items": [change_record(change) for change in found], "next_cursor": following})


# --- change


@router.post("/tasks/{task_def_id}/pause", operation_id="pause_task_definition", **_PAUSE)
@router.post(f"{PATH}/{{task_def_id}}/pause", **_PAUSE)
async def pause_definition(request: Request, task_def_id: DefinitionId, parts: PartsOf) -> Response:
    """Stop firing. Running instances go on."""
    return await _moved(request, parts, task_def_id, Schedules.pause)


@router.post("/tasks/{task_def_id}/resume", operation_id="resume_task_definition", **_RESUME)
@router.post(f"{PATH}/{{task_def_id}}/resume", **_RESUME)
async def resume_definition(request: Request, task_def_id: DefinitionId, parts: PartsOf) -> Response:
    """Fire again, from the next slot on."""
    return await _moved(request, parts, task_def_id, Schedules.resume)


@router.post("/tasks/{task_def_id}/cancel", operation_id="cancel_task_definition", **_CANCEL)
@router.post(f"{PATH}/{{task_def_id}}/cancel", **_CANCEL)
async def cancel_definition(request: Request, task_def_id: DefinitionId, parts: PartsOf) -> Response:
    """End the definition for good. Its instances are cancelled too."""
    return await _moved(request, parts, task_def_id, Schedules.cancel)


@router.post("/tasks/{task_def_id}/trigger", operation_id="trigger_task_definition", **_TRIGGER)
@router.post(f"{PATH}/{{task_def_id}}/trigger", **_TRIGGER)
async def trigger_definition(request: Request, task_def_id: DefinitionId, parts: PartsOf, key: _Key = None) -> Response:
    """Run one instance now, whatever the schedule, also while the definition is paused."""
    schedules = await _owned(request, parts, task_def_id)
    firing = await schedules.trigger(task_def_id, actor=principal_in(request.scope).name, key=key)
    return json_response(firing_record(firing, "pending"), 202)


@router.post(
    f"{PATH}/{{task_def_id}}/backfill",
    access=SUBMIT.audited("definition.backfill"),
    status_code=202,
    summary="Run past slots",
    response_model=Backfill,
    response_description="The instances are created.",
    responses={**_CHECK, **problems("definition_not_found", "illegal_definition_move")},
    openapi_extra=json_body("BackfillRequest"),
)
async def backfill_definition(
    request: Request, task_def_id: DefinitionId, parts: PartsOf, key: _Key = None
) -> Response:
    """Run each slot from `start` to `end`, both included."""
    schedules = await _owned(request, parts, task_def_id)
    wanted = await _read(request, BackfillRequest)
    firings = await schedules.backfill(
        task_def_id,
        wanted.start,
        wanted.end,
        actor=principal_in(request.scope).name,
        one_by_one=wanted.one_by_one,
        key=key,
    )
    return json_response({"items": [firing_record(firing, firing.state.value) for firing in firings]}, 202)


@router.patch(
    f"{PATH}/{{task_def_id}}",
    access=SUBMIT.audited("definition.edit"),
    summary="Edit a definition",
    response_model=DefinitionRecord,
    response_description="The definition after the change.",
    responses={**_CHECK, **problems("definition_not_found", "illegal_definition_move", "definition_changed")},
    openapi_extra=json_body("DefinitionEdit"),
)
async def edit_definition(
    request: Request,
    task_def_id: DefinitionId,
    parts: PartsOf,
    rev: Annotated[int | None, Query(description="Edit only if the definition still has this `rev`.")] = None,
) -> Response:
    """Change the fields that the body names and keep the rest. An unchanged interval keeps its phase.

    The arguments of the trigger and the fields of the task that the body does not name are kept too; null removes one.
    """
    schedules = await _owned(request, parts, task_def_id)
    caller = principal_in(request.scope)
    document = await _document(request)
    if isinstance(document, dict) and isinstance(document.get("task"), dict):
        document = named_type(await schedules.definitions.get(task_def_id), document)
    document = await _confined(document, caller, parts)
    return json_response(
        _record(
            await schedules.edit(task_def_id, document, actor=caller.name, rev=rev, maker=caller.group_maker), request
        )
    )


# --- shared steps


async def _owned(request: Request, parts: Parts, definition_id: str) -> Schedules:
    """Return task control; raises `DefinitionNotFoundError` for a definition of another user."""
    caller = principal_in(request.scope)
    if not caller.admin and not caller.sees((await parts.schedules.definitions.get(definition_id)).user_id):
        raise DefinitionNotFoundError(definition_id)
    return parts.schedules


async def _moved(request: Request, parts: Parts, definition_id: str, move: _Move) -> Response:
    """Make a move, with the note of the body if it has one, and answer with the definition."""
    schedules = await _owned(request, parts, definition_id)
    note = (await _read(request, MoveRequest)).note
    return json_response(
        _record(await move(schedules, definition_id, actor=principal_in(request.scope).name, note=note), request)
    )


async def _confined(document: Any, caller: Principal, parts: Parts) -> Any:
    """Return a definition's document so that its instances reach nothing of other users."""
    task = document.get("task") if isinstance(document, dict) else None
    if caller.admin or not isinstance(task, dict) or not isinstance(task.get("payload"), dict):
        return document
    payload = await parts.tasks.check_template(str(task.get("type")), task["payload"], caller=caller)
    return {**document, "task": {**task, "payload": payload}}


async def _list(
    parts: Parts, *, statuses: tuple[DefinitionStatus, ...], next_runs: int = 0, last_runs: int = 0, **chosen: Any
) -> Response:
    try:
        found, following = await parts.schedules.find(statuses=statuses, **chosen)
    except BadCursorError as exc:
        raise _bad_cursor(exc) from exc
    items = [_record(seen) for seen in found]
    definitions = [seen.definition for seen in found]
    if next_runs:
        coming = await parts.schedules.previews(definitions, next_runs)
        for item, (table, slots) in zip(items, coming, strict=True):
            item["next_runs"] = preview_records(table, slots)
    if last_runs:
        runs = await parts.schedules.last_runs(definitions, last_runs)
        for item in items:
            item["last_runs"] = [run_record(run) for run in runs.get(item["task_def_id"], ())]
    return json_response({"items": items, "next_cursor": following})


def _record(seen: CurrentDefinition, request: Request | None = None) -> dict[str, Any]:
    # The routes below `/tasks` answer as they always did.
    warnings = seen.warnings if request is not None and PATH in request.url.path else ()
    return definition_record(seen.definition, seen.status, warnings)


async def _document(request: Request) -> Any:
    body = await request.body()
    try:
        return json_text.read(body, "the body")
    except JsonError as exc:
        raise RequestError("malformed_json", str(exc)) from exc


async def _read(request: Request, model: type[_M]) -> _M:
    document = await _document(request) if await request.body() else {}
    check_field_count(document, model.model_fields)
    try:
        return model.model_validate(document if document is not None else {})
    except ValidationError as exc:
        raise InvalidSubmissionError(violations_of(exc)) from exc


def _bad_cursor(exc: BadCursorError) -> RequestError:
    return RequestError("invalid_request", f"cursor: {exc}", [Violation("cursor", str(exc))])
