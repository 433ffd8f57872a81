"""Many submissions in one request, each with its own outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from celeriac import json_text
from celeriac.errors import CeleriacError, InvalidSubmissionError, JsonError, Violation
from celeriac.model import Submitted
from celeriac.tasks.reasons import reason_records
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import SUBMIT
from celeriac_api.http.bodies import ClientGoneError, read_body
from celeriac_api.http.problems import RequestError, instance_of, problem_document, row_of
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import BATCH_BODY, problems
from celeriac_api.openapi.schemas import BatchResults
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH, check_headers
from celeriac_api.routing import Router

#: An answer has at most this many warnings.
_MOST_WARNINGS: Final = 20

router = Router(prefix=PATH, tags=["tasks"])


@router.post(
    "/batch",
    access=SUBMIT,
    summary="Submit many tasks",
    description=(
        "Submits up to 1,000 tasks (setting `max_batch`) at the price of a few. Each has its own outcome in `results`, "
        "in the order of `tasks`. It is the answer that a single submission would get: `status` (202 for a new task, "
        "200 for a known one, with `deduplicated` or `debounced` if `once` or `debounce` answered it) with `task_id` "
        "and `task_status`, or the `status` of a refusal with the problem as `error`. "
        "A refused task does not affect the others, so the answer is 200 even if tasks were "
        "refused: look at each. Only if the store is unavailable and nothing was accepted, the whole answer is "
        "503.\n\n"
        "`then` is a submission that starts when all accepted tasks have ended, whatever their end; it reads them "
        "through `ctx.parents`. If it is not valid, the whole batch is refused with 422. If no task was accepted, it "
        "is not submitted, and `then` in the answer is `null`.\n\n"
        "With the header `Idempotency-Key: K`, a task without its own key gets the key `K:0`, `K:1`, … by its "
        "place, so that the same batch can be sent again."
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
    """Answer with the outcome of each task."""
    limit = parts.settings.max_body_bytes
    batch_key = check_headers(request.scope["headers"], limit, request.scope)
    try:
        body = await read_body(request.receive, limit)
    except ClientGoneError:
        return Response(status_code=400)  # the client is gone, so nobody reads it
    documents, then = _documents(body, parts.settings.max_batch)
    del body
    instance = instance_of(request.scope)
    last: Submitted | CeleriacError | None = None
    if then is None:
        outcomes = await parts.tasks.submit_many(documents, caller=caller, idempotency_key=batch_key)
    else:
        outcomes, last = await parts.tasks.submit_with_then(documents, then, caller=caller, idempotency_key=batch_key)
    answer: dict[str, Any] = {"results": [_result(f"{instance}#/tasks/{i}", o) for i, o in enumerate(outcomes)]}
    if then is not None:
        answer["then"] = None if last is None else _result(f"{instance}#/then", last)
    if warnings := _warnings([*outcomes, last]):
        answer["warnings"] = warnings
    return json_response(answer)


def _warnings(outcomes: Sequence[Submitted | CeleriacError | None]) -> list[dict[str, Any]]:
    """Return the warnings of all tasks, each once, in the order of the tasks; most tasks of a batch are alike."""
    found = {warning.text: warning for one in outcomes if isinstance(one, Submitted) for warning in one.warnings}
    return reason_records(list(found.values())[:_MOST_WARNINGS])


def _documents(body: bytes, most: int) -> tuple[Sequence[object], object]:
    """Return the batch's tasks and what follows them (None: nothing), unchecked; raises if the body is not a batch."""
    try:
        document = json_text.read(body, "the body")
    except JsonError as exc:
        raise RequestError("malformed_json", str(exc)) from exc
    if not isinstance(document, Mapping) or not isinstance(document.get("tasks"), list):
        raise InvalidSubmissionError([Violation("tasks", "a batch must be a JSON object whose `tasks` is a list")])
    if unknown := [name for name in document if name not in ("tasks", "then")]:
        raise InvalidSubmissionError([Violation(unknown[0], "this field does not exist; a batch has tasks and then")])
    tasks: list[object] = document["tasks"]
    if len(tasks) > most:
        raise InvalidSubmissionError([Violation("tasks", f"holds {len(tasks)} tasks, above the limit of {most}")])
    return tasks, document.get("then")


def _result(instance: str, outcome: Submitted | CeleriacError) -> dict[str, Any]:
    if isinstance(outcome, Submitted):
        return {
            "status": 202 if outcome.created else 200,
            "task_id": outcome.task_id,
            "task_status": outcome.status.wire,
            **outcome.known_as,
        }
    return {"status": row_of(outcome).http, "error": problem_document(outcome, instance)}
