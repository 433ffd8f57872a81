"""Many submissions in one request, each with an outcome of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi import Request
from starlette.responses import Response

from celeriac.access.principal import Principal
from celeriac.errors import CeleriacError, InvalidSubmissionError, StoreUnavailableError, Violation
from celeriac.model import Submission, Submitted
from celeriac.tasks.catalog import TypeLookup
from celeriac.tasks.confining import confined
from celeriac.tasks.request import BatchItem, read_batch_item
from celeriac.tasks.submission import build_submission
from celeriac.tasks.types.file_process import FILE_PROCESS
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import SUBMIT
from celeriac_api.http.bodies import ClientGoneError, read_body
from celeriac_api.http.problems import RequestError, instance_of, problem_document, row_of
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import BATCH_BODY, problems
from celeriac_api.openapi.schemas import BatchResults
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routes.tasks.submit import PATH, check_headers
from celeriac_api.routing import Router

log = logging.getLogger(__name__)

router = Router(prefix=PATH, tags=["tasks"])

#: Items checked before others get their turn on the loop (about 2 ms).
_TURN: Final = 50


@router.post(
    "/batch",
    access=SUBMIT,
    summary="Submit many tasks",
    description=(
        "Takes up to 1,000 tasks (setting `max_batch`) at the price of a few. Each has its own outcome in `results`, "
        "in the order of `tasks`: what a submission of its own would have been answered with, as `status` (202 for a "
        "new task, 200 for one that its idempotency key names) with `task_id` and `task_status`, or the `status` of a "
        "refusal with the problem as `error`. A refused task disturbs no other one. So the answer is 200 also when "
        "tasks were refused: look at each. Only when the store is away and nothing was accepted is the whole answer "
        "503.\n\n"
        "With the header `Idempotency-Key: K`, a task without a key of its own has the key `K:0`, `K:1`, … by its "
        "place: the same batch can be sent again."
    ),
    response_model=BatchResults,
    responses=problems(
        "malformed_json",
        "invalid_header",
        "too_large",
        "unsupported_media_type",
        "invalid_submission",
        "store_unavailable",
    ),
    openapi_extra=BATCH_BODY,
)
async def submit_batch(request: Request, parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with an outcome for each task."""
    limit = parts.settings.max_body_bytes
    batch_key = check_headers(request.scope["headers"], limit, request.scope)
    try:
        body = await read_body(request.receive, limit)
    except ClientGoneError:
        return Response(status_code=400)  # nobody is there to read it
    prepared = await _prepare(_documents(body, parts.settings.max_batch), parts, batch_key, caller)
    del body
    outcomes = await _submit(prepared, parts)
    away = next((outcome for outcome in outcomes if isinstance(outcome, StoreUnavailableError)), None)
    if away is not None and not any(isinstance(outcome, Submitted) for outcome in outcomes):
        raise away
    instance = instance_of(request.scope)
    return json_response({"results": [_result(f"{instance}#/tasks/{i}", o) for i, o in enumerate(outcomes)]})


def _documents(body: bytes, most: int) -> Sequence[object]:
    """Return the batch's tasks, unchecked; raises for what is no batch."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise RequestError("malformed_json", f"the body is not JSON: {exc}") from exc
    if not isinstance(document, Mapping) or not isinstance(document.get("tasks"), list):
        raise InvalidSubmissionError([Violation("tasks", "a batch is a JSON object whose `tasks` is a list")])
    if unknown := [name for name in document if name != "tasks"]:
        raise InvalidSubmissionError([Violation(unknown[0][:100], "there is no such field; known are: tasks")])
    tasks: list[object] = document["tasks"]
    if len(tasks) > most:
        raise InvalidSubmissionError([Violation("tasks", f"holds {len(tasks)} tasks, above the limit of {most}")])
    return tasks


async def _prepare(
    documents: Sequence[object], parts: Parts, batch_key: str | None, caller: Principal
) -> list[Submission | CeleriacError]:
    """Return each task's submission, or why it is none."""
    types: dict[str, TypeLookup] = {}
    prepared: list[Submission | CeleriacError] = []
    for place, document in enumerate(documents):
        if place % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        try:
            item = confined(read_batch_item(document), caller)
            if item.type == FILE_PROCESS.name and not caller.admin:
                await parts.files.check_caller(FILE_PROCESS.validate(item.payload), caller)
            if item.type not in types:
                types[item.type] = await parts.types.containing(item.type)
            key = item.idempotency_key or (None if batch_key is None else f"{batch_key}:{place}")
            prepared.append(_build(item, parts, types[item.type], key))
        except CeleriacError as exc:
            prepared.append(exc)
    return prepared


def _build(item: BatchItem, parts: Parts, types: TypeLookup, key: str | None) -> Submission | CeleriacError:
    try:
        return build_submission(item, parts.settings, types, idempotency_key=key)
    except CeleriacError:
        raise
    except Exception as exc:
        # A task type's own validator may raise anything; the other tasks have nothing to do with it.
        log.exception("a submission failed unexpectedly")
        error = CeleriacError(str(exc))
        error.__cause__ = exc
        return error


async def _submit(prepared: Sequence[Submission | CeleriacError], parts: Parts) -> list[Submitted | CeleriacError]:
    """Store what can be stored. All calls are made in one tick, so they share a round trip."""
    submissions = [item for item in prepared if isinstance(item, Submission)]
    replies = iter(await asyncio.gather(*map(parts.store.submit, submissions), return_exceptions=True))
    outcomes: list[Submitted | CeleriacError] = []
    for item in prepared:
        outcome = next(replies) if isinstance(item, Submission) else item
        if not isinstance(outcome, Submitted | CeleriacError):
            raise outcome
        outcomes.append(outcome)
    return outcomes


def _result(instance: str, outcome: Submitted | CeleriacError) -> dict[str, Any]:
    if isinstance(outcome, Submitted):
        return {
            "status": 202 if outcome.created else 200,
            "task_id": outcome.task_id,
            "task_status": outcome.status.wire,
        }
    return {"status": row_of(outcome).http, "error": problem_document(outcome, instance)}
