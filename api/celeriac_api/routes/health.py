"""Whether the process is alive, and whether it can accept work."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from celeriac import __version__
from celeriac.errors import CeleriacError, StoreUnavailableError
from celeriac.history.history import History
from celeriac.store.watching.feed import EventFeed
from celeriac_api.access.rights import OPEN
from celeriac_api.http.problems import TABLE, instance_of, problem
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import Alive, Ready
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routing import Router

router = Router(tags=["operations"])

#: Longest wait for the answer of a part (seconds). Probes give up after a few.
_PATIENCE_S: Final = 2.0


@router.get(
    "/healthz",
    access=OPEN,
    summary="Is the process alive?",
    description="Answers without asking any other part: an unavailable store is not a reason to restart this process.",
    response_model=Alive,
)
async def healthz() -> Response:
    """Answer without asking any other part."""
    return json_response({"alive": True, "version": __version__})


@router.get(
    "/readyz",
    access=OPEN,
    summary="Do its parts answer?",
    description=(
        "200 if this process can accept work, otherwise 503 with the same `parts`. The history (`ledger`) is not "
        "needed for that: while it is unavailable, the store keeps what it will record. Its part says how far "
        "it is behind."
    ),
    response_model=Ready,
    responses=problems("store_unavailable"),
)
async def readyz(request: Request, parts: PartsOf) -> Response:
    """Answer with the state of each part."""
    state = {"store": await _store(parts)}
    if parts.history_or_none is not None:
        state["ledger"] = await _history(parts, parts.history_or_none)
    if state["store"]["ok"]:
        return json_response({"ready": True, "parts": state})
    return problem(
        "store_unavailable",
        TABLE["store_unavailable"],
        f"store: {state['store']['detail']}",
        instance_of(request.scope),
        extra={"ready": False, "parts": state},
    )


async def _history(parts: Parts, history: History) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await history.check()
            lag = await EventFeed(parts.store, consumer="").lag()
    except TimeoutError:
        return {"ok": False, "detail": f"no answer within {_PATIENCE_S:g} s"}
    except CeleriacError as exc:
        return {"ok": False, "detail": str(exc)}
    if lag.recording:
        detail = f"{lag.entries} events behind" + (f", the oldest since {lag.seconds:.1f} s" if lag.entries else "")
        detail += "; reading all records again" if lag.resyncing else ""
    else:
        detail = "nothing has been recorded yet: run `celeriac beat`"
    return {"ok": lag.recording, "detail": detail, "behind_events": lag.entries, "behind_s": lag.seconds}


async def _store(parts: Parts) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await parts.store.ping()
    except TimeoutError:
        return {"ok": False, "detail": f"no answer within {_PATIENCE_S:g} s"}
    except StoreUnavailableError as exc:
        return {"ok": False, "detail": str(exc)}
    except CeleriacError as exc:
        return {"ok": False, "detail": exc.code}
    return {"ok": True, "detail": f"answered in {(time.perf_counter() - started) * 1000:.1f} ms"}
