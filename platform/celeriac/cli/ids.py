"""Ids as people write them: a unique beginning is enough."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from celeriac.cli.reach.platform import AnyPlatform
from celeriac.errors import (
    DefinitionNotFoundError,
    InvalidSubmissionError,
    TaskNotFoundError,
    Violation,
    WorkflowNotFoundError,
)

#: The shortest beginning that may stand for an id.
SHORTEST: Final = 6
#: Among so many workflows a beginning of an id is looked for.
_LATEST: Final = 500
#: An error names this many of the ids that begin alike.
_NAMED: Final = 3
#: An id that the platform made.
WHOLE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


async def whole_task_id(platform: AnyPlatform, given: str) -> str:
    """Return the id of the one task whose id is `given` or begins so.

    Raises `TaskNotFoundError`, and `InvalidSubmissionError` if several begin so, or `given` is too short.
    """
    if WHOLE_ID.fullmatch(given):
        return given
    return _the_one(given, await platform.tasks.ids(given, _NAMED + 1), "task", TaskNotFoundError(given))


async def whole_definition_id(platform: AnyPlatform, given: str) -> str:
    """Return the id of the one definition whose id is `given` or begins so; raises as `whole_task_id` does."""
    if WHOLE_ID.fullmatch(given):
        return given
    found = await platform.definitions.listed(_NAMED + 1, user_id=None, status=None, group=None, id_prefix=given)
    ids = [str(one["task_def_id"]) for one in found]
    return _the_one(given, ids, "definition", DefinitionNotFoundError(given))


async def whole_workflow_id(platform: AnyPlatform, given: str) -> str:
    """Return the id of the workflow whose id is `given`, or of the only one of the latest that begins so.

    Raises `WorkflowNotFoundError`, and `InvalidSubmissionError` as `whole_task_id` does.
    """
    if WHOLE_ID.fullmatch(given):
        return given
    try:
        return str((await platform.workflows.get(given))["workflow_id"])
    except WorkflowNotFoundError as missing:
        async with aclosing(platform.workflows.listed(_LATEST, status=None, name=None)) as found:
            ids = [str(one["workflow_id"]) async for one in found]
        return _the_one(given, [one for one in ids if one.startswith(given)], "workflow", missing)


async def whole_key_id(platform: AnyPlatform, given: str) -> str:
    """Return the id of the one API key whose id is `given` or begins so; an unknown one is returned as it is."""
    ids = [str(key["id"]) for key in await platform.operators.keys()]
    matching = [one for one in ids if one.startswith(given)]
    return _the_one(given, matching, "API key", None)


def _the_one(given: str, found: Sequence[str], noun: str, missing: Exception | None) -> str:
    if given in found or (not found and missing is None):
        return given
    if len(given) < SHORTEST:
        raise InvalidSubmissionError(
            [Violation("id", f"{given!r} is too short: write at least {SHORTEST} characters of the {noun}'s id")]
        )
    if not found:
        assert missing is not None
        raise missing
    if len(found) > 1:
        named = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        message = f"several {noun}s begin with {given!r}: {named}; write more of the id"
        raise InvalidSubmissionError([Violation("id", message)])
    return found[0]
