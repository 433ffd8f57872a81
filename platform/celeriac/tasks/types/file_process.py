"""The task type `file_process` as every process knows it: the shape of its payload and its plan.

The handler, and the processors' functions, are in `celeriac_tasks.files`; a front door needs neither to
check a submission.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

import celeriac.tasks.types.file_options  # noqa: F401 - registers the built-in processors
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.model import Delivery, Task
from celeriac.settings import ChainStep, Settings
from celeriac.tasks.registry import registry
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks
from celeriac.tasks.types.processors import Processor, Processors, processors
from celeriac.violations import no_such, unknown_names, violations_of

#: Name of the intake that takes files over.
FILES: Final = "files"


def _absent_as_empty(value: Any) -> Any:
    return {} if value is None else value


class FilePayload(BaseModel):
    """The payload of a `file_process`: which processor, with which options, on which file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processor: str = Field("video", min_length=1, max_length=64, description="A processor, or a chain of the settings.")
    options: Annotated[dict[str, Any], BeforeValidator(_absent_as_empty)] = Field(
        default_factory=dict, description="The processor's options; of a chain: its steps' options, by step."
    )
    file_id: str | None = Field(None, min_length=1, max_length=200, description="An upload.")
    path: str | None = Field(None, min_length=1, max_length=4096, description="A file that is on the server already.")

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if self.path is not None and self.file_id is not None:
            raise ValueError("path and file_id exclude each other: give one of them")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema with each processor's options, as they are known now."""
        document = handler.resolve_ref_schema(handler(schema))
        document["properties"]["processor"]["examples"] = [known.name for known in processors]
        document["allOf"] = [
            {
                "if": {"properties": {"processor": {"const": known.name}}, "required": ["processor"]},
                "then": {"properties": {"options": known.options.model_json_schema()}},
            }
            for known in processors
        ]
        return document


@dataclass(frozen=True)
class Step:
    """One processor to run, with its options validated; on the original, or on the result so far."""

    processor: Processor
    options: BaseModel
    of: Literal["original", "result"] = "original"


@dataclass(frozen=True)
class Plan:
    """What a `file_process` does: its steps in order. In a chain, the facts of the result are grouped by step."""

    steps: tuple[Step, ...]
    chain: bool


def plan_of(payload: FilePayload, chains: Mapping[str, Sequence[ChainStep]], known: Processors = processors) -> Plan:
    """Return what to run; raises `InvalidSubmissionError` that names the field which does not fit."""
    if payload.processor in chains:
        return Plan(tuple(_chain_steps(payload, chains[payload.processor], known)), chain=True)
    processor = known.get(payload.processor)
    if processor is None:
        text = no_such("processor", payload.processor, sorted({*(one.name for one in known), *chains}))
        raise InvalidSubmissionError([Violation("payload.processor", text)])
    return Plan((Step(processor, options_of(processor, payload.options, "payload.options")),), chain=False)


def _chain_steps(payload: FilePayload, chain: Iterable[ChainStep], known: Processors) -> list[Step]:
    steps: list[Step] = []
    names = [step.processor for step in chain]
    if unknown := [name for name in payload.options if name not in names]:
        what = f"step of {payload.processor!r}"
        raise InvalidSubmissionError(unknown_names("payload.options", what, unknown, names))
    for step in chain:
        processor = known.get(step.processor)
        if processor is None:
            text = (
                f"the chain {payload.processor!r} of the settings names a processor {step.processor!r}; there is none"
            )
            raise InvalidSubmissionError([Violation("payload.processor", text)])
        field = f"payload.options.{step.processor}"
        own = payload.options.get(step.processor) or {}
        if not isinstance(own, Mapping):
            raise InvalidSubmissionError([Violation(field, "must be a JSON object")])
        steps.append(Step(processor, options_of(processor, {**step.options, **own}, field), step.of))
    return steps


def options_of(processor: Processor, options: Mapping[str, Any], field: str) -> BaseModel:
    """Return the options as the processor's model; raises `InvalidSubmissionError` with paths below `field`."""
    names = list(processor.options.model_fields)
    strange = [name for name in options if name not in names]
    if strange and processor.options.model_config.get("extra") == "forbid":
        what = f"option of {processor.name!r}"
        raise InvalidSubmissionError(unknown_names(field, what, strange, names))
    try:
        return processor.options.model_validate(dict(options))
    except ValidationError as exc:
        raise InvalidSubmissionError(violations_of(exc, prefix=field)) from exc


def file_policy(payload: FilePayload, settings: Settings) -> RetryPolicy:
    """Return how a `file_process` is retried; raises `InvalidSubmissionError` if it cannot run.

    A file that no processor can read fails at once; only failures that may pass are retried.
    """
    plan_of(payload, settings.files.processing.chains)
    return RetryPolicy(max_retries=3, delay_s=5.0)


class _FileHooks(TypeHooks):
    """The file that a payload names is handed over with the task."""

    intake = FILES
    # Which files it may read is decided at the submission.
    whole_payload = True

    def check_without_intake(self, payload: FilePayload, delivery: Delivery) -> None:
        """Refuse an upload, and a file for a foreign program: both must be handed over."""
        if payload.file_id is not None:
            message = "an upload belongs to one task that is submitted over the API; name a file by payload.path here"
            raise InvalidSubmissionError([Violation("payload.file_id", message)])
        if delivery is Delivery.EXTERNAL:
            message = "a foreign program gets its file handed over, for which the task must be submitted over the API"
            raise InvalidSubmissionError([Violation("payload.path", message)])

    def original_path(self, task: Task) -> str | None:
        """Return `payload.path`."""
        path = task.payload.get("path") if isinstance(task.payload, Mapping) else None
        return path if isinstance(path, str) else None

    def check_retry(self, task: Task, payload: FilePayload) -> None:
        """Refuse another file than the task has: its file was handed over when it was submitted."""
        before = task.payload if isinstance(task.payload, Mapping) else {}
        for name in ("file_id", "path") if task.original_file_path else ("file_id",):
            wanted = getattr(payload, name)
            if wanted is not None and wanted != before.get(name):
                message = "a retry keeps the file that the task has: leave it out, or submit another task for this file"
                raise InvalidSubmissionError([Violation(f"payload.{name}", message)])


#: The type without a handler: enough to check a submission. Workers add theirs.
FILE_PROCESS: Final = registry.add(
    TaskType(
        name="file_process",
        payload=TypeAdapter(FilePayload),
        description="Process a file: transcode, thumbnail, probe, image, checksum, compress, or a processor of yours.",
        policy=file_policy,
        hooks=_FileHooks(),
    )
)
