"""Makes a definition of an entry: the call as Celery would publish it, and its moments."""

from __future__ import annotations

import uuid
from typing import Any, Final

from celery.result import denied_join_result
from kombu.exceptions import OperationalError

from celeriac import json_text
from celeriac.errors import CeleriacError, StoreUnavailableError
from celeriac.model import Submission
from celeriac.schedules.definition import Definition, DefinitionStatus, Spec
from celeriac.schedules.times.backlog import Misfire
from celeriac.settings import GROUP_NAME, Settings
from celeriac.tasks.submission import INSTANCE_ID, template_of
from celeriac_tasks.engine.attempts.base import CeleriacTask
from celeriac_tasks.moving_in.entries import Entry, NotImportableError
from celeriac_tasks.moving_in.triggers import trigger_of

_NAMESPACE: Final = uuid.UUID("7c1d4a52-9a0e-4a3e-9d59-0f6c4f3f5d2b")
#: The metadata field that names the schedule from which a definition was imported.
ORIGIN: Final = "origin"
MAX_NAME: Final = 200


def imported_id(app: Any, name: str) -> str:
    """Return the id of the definition of an entry: the same whenever and from wherever the entry is imported."""
    return str(uuid.uuid5(_NAMESPACE, f"{app.main}:{name}"))


def described(app: Any, entry: Entry) -> Submission:
    """Return the submission that each firing makes; Celery itself builds the call. Raises `NotImportableError`."""
    if entry.task.startswith("celery."):
        raise NotImportableError(f"{entry.task} is a task of Celery's own, without records: leave it to celery beat")
    task = app.tasks.get(entry.task)
    if task is not None and not isinstance(task, CeleriacTask):
        raise NotImportableError(f"the class of {entry.task} receives messages in its own way: leave it to celery beat")
    if late := {"countdown", "eta"} & set(entry.options):
        raise NotImportableError(f"it has the option {min(late)}: move its schedule by that time instead")
    if len(entry.name) > MAX_NAME:
        raise NotImportableError(f"its name has more than {MAX_NAME} characters: shorten it")
    try:
        call = app.signature(entry.task, args=tuple(entry.args), kwargs=dict(entry.kwargs), options=_options(entry))
        # Nobody waits for this call, so the project's result backend need not listen for it.
        with denied_join_result():
            submission: Submission = app.described(call)
    except (OperationalError, StoreUnavailableError) as exc:
        raise StoreUnavailableError(f"the store cannot be reached: {exc}") from exc
    except KeyError as exc:
        raise NotImportableError("its exchange and routing key lead to no queue: give it a queue") from exc
    except (TypeError, ValueError, CeleriacError) as exc:
        # Arguments that do not fit the task, or cannot be written.
        raise NotImportableError(f"the call cannot be made: {exc}") from exc
    if GROUP_NAME.fullmatch(submission.group) is None:
        raise NotImportableError(f"its queue {submission.group!r:.100} is not the name of a group: rename the queue")
    return submission


def _options(entry: Entry) -> dict[str, Any]:
    return {**entry.options, "task_id": INSTANCE_ID}


def definition_of(
    app: Any, entry: Entry, submission: Submission, settings: Settings, *, now_ms: int, user_id: str
) -> Definition:
    """Return the definition that fires when the entry would; raises `NotImportableError`."""
    if entry.one_off and entry.runs and entry.enabled:
        raise NotImportableError("it was to run once, and has run")
    own = settings.schedule
    trigger = trigger_of(entry, timezone=app.timezone, now_ms=now_ms, own=own)
    deadline_s = app.conf.beat_cron_starting_deadline
    late = deadline_s is not None and "cron" in trigger.args
    run = template_of(submission)
    spec = Spec(
        user_id=user_id,
        content="",
        trigger_args=trigger.args,
        anchor_ms=trigger.anchor_ms,
        task=_task(submission),
        run={**run, "metadata": {ORIGIN: entry.source.value}},
        # Celery fires once for all that it missed, unless a deadline has passed.
        misfire=Misfire.SKIP if late else Misfire.FIRE_ONCE,
        misfire_grace_ms=round((float(deadline_s) if late else own.misfire_grace) * 1000),
        catchup_window_ms=round(own.catchup_window * 1000),
        start_ms=trigger.start_ms,
        end_ms=trigger.end_ms,
        max_runs=1 if entry.one_off else None,
        metadata={ORIGIN: entry.source.value},
    )
    return Definition(
        definition_id=imported_id(app, entry.name),
        rev=1,
        status=DefinitionStatus.ACTIVE,
        trigger_type=trigger.type,
        source=entry.source.value,
        name=entry.name,
        user_id=user_id,
        group=submission.group,
        spec=spec,
        note=entry.description[:2000] or None,
        next_slot_ms=None,
        next_ms=None,
        created_ms=now_ms,
        updated_ms=now_ms,
        ended_ms=None,
    )


def _task(submission: Submission) -> dict[str, Any]:
    """Return the task as its owner reads and edits it."""
    task: dict[str, Any] = {
        "type": submission.type,
        "payload": json_text.read(submission.payload),
        "queue": submission.group,
    }
    if submission.expires_in_ms is not None:
        task["expires"] = submission.expires_in_ms / 1000
    return task
