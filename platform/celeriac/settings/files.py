"""Settings of files: where they are stored, which ones are accepted, how they are processed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from celeriac.settings.values import Duration, Names, Section, Size


def _step_from_name(value: Any) -> Any:
    return {"processor": value} if isinstance(value, str) else value


class ChainStep(Section):
    """One step of a chain of file processors. The bare name of a processor is short for a step without options."""

    processor: str = Field(min_length=1, description="Name of the processor that runs.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="The processor's options, unless a submission gives others."
    )
    of: Literal["original", "result"] = Field(
        "original",
        description="What the step works on: the task's original file, or the file that the first step made.",
    )


class ProcessingSettings(Section):
    """How `file_process` tasks run: each processor in a child process, with these limits."""

    concurrency: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="How many `file_process` tasks one worker process runs at once. Not set: the number of CPUs.",
    )
    timeout: Duration = Field(
        3600.0,
        gt=0,
        description="How long a `file_process` task may take, all its processors together. Then it fails.",
    )
    cpu_time: Duration = Field(
        4 * 3600.0,
        ge=1,
        description="How much CPU time one processor may use. Then it is stopped, and the task fails.",
    )
    memory: Size = Field(
        2 * 1024**3,
        ge=128 * 1024**2,
        description=(
            "How much memory one processor may use for its data (`RLIMIT_DATA`). Allocating more fails the task. Raise "
            "it for very large pictures."
        ),
    )
    max_output_bytes: Size = Field(
        20 * 1024**3, ge=1, description="The largest file that a processor may write; a larger one fails the task."
    )
    max_open_files: int = Field(
        256, ge=32, description="How many files a processor may have open (`RLIMIT_NOFILE`); opening more fails."
    )
    max_pixels: int = Field(
        100_000_000,
        ge=1,
        description=(
            "The most pixels (width times height) that a picture or a frame of a video may have. Larger ones are not "
            "decoded, and their task fails."
        ),
    )
    max_duration: Duration = Field(
        12 * 3600.0,
        gt=0,
        description="The longest video or sound that is processed; the task of a longer one fails.",
    )
    threads: int = Field(2, ge=1, le=64, description="How many threads one ffmpeg uses.")
    ffmpeg: Path | None = Field(
        None,
        description=(
            "The ffmpeg program to run, a path or a name. Not set: the one on `PATH`, else the one that came with "
            "the installation."
        ),
    )
    chains: dict[str, list[Annotated[ChainStep, BeforeValidator(_step_from_name)]]] = Field(
        default_factory=lambda: {
            "video": [
                ChainStep(processor="transcode"),
                ChainStep(processor="thumbnail", of="result"),
                ChainStep(processor="probe", of="result"),
            ]
        },
        description=(
            "Names for several processors that run one after another. Each step is the name of a processor, or a map "
            "of `processor`, `options` and `of` (`original` or `result`, which the first step made). The chain `video` "
            "is what `CreateTask` runs."
        ),
    )

    @model_validator(mode="after")
    def _steps(self) -> Self:
        for name, steps in self.chains.items():
            if not steps:
                raise ValueError(f"the chain {name!r} has no steps: name at least one processor")
            processors = [step.processor for step in steps]
            for processor in processors:
                if processors.count(processor) > 1:
                    raise ValueError(f"the chain {name!r} names the processor {processor!r} twice: leave one out")
        return self


def _paths_from_text(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


class S3Settings(Section):
    """Object storage with an S3 interface. AWS' usual variables (`AWS_ACCESS_KEY_ID`, …) hold the credentials."""

    endpoint: str | None = Field(
        None, description="URL of the S3 server, if it is not Amazon's. With `http://` the connection has no TLS."
    )
    region: str | None = Field(None, description="Region of the bucket. Not set: what AWS' own variables say.")
    virtual_hosted: bool = Field(
        False, description="Whether the bucket's name is part of the host name instead of the path."
    )


class FilesSettings(Section):
    """Where files are stored, from where they are accepted, and how they are processed."""

    storage_path: Path = Field(
        Path("storage"),
        description="Folder in which the files of tasks are stored, each task's in a folder of its own.",
    )
    allowed_roots: Annotated[list[Path] | None, BeforeValidator(_paths_from_text)] = Field(
        None,
        description=(
            "Folders from which a submission may hand over files by path; other paths are refused. Not set: the "
            "upload area and the system's temporary folder. In the environment the folders are separated as in `PATH`."
        ),
    )
    storage_url: str | None = Field(
        None,
        description=(
            "Storage that several machines share, in which the files of tasks are kept: `s3://BUCKET/PREFIX`, or "
            "`file:///FOLDER` for a folder that is mounted everywhere. Not set: they are kept in `files.storage_path` "
            "only."
        ),
    )
    s3: S3Settings = S3Settings()
    upload_path: Path | None = Field(
        None,
        description=(
            "Folder of the upload area. Not set: `uploads` in the data folder. Choose one on the same filesystem as "
            "`files.storage_path`, and a task takes an upload over by a rename instead of a copy."
        ),
    )
    max_upload_bytes: Size = Field(
        20 * 1024**3, ge=1, description="The largest file that may be uploaded; a larger one is answered 413."
    )
    upload_quota: Size = Field(
        200 * 1024**3,
        ge=1,
        description=(
            "How many bytes all uploads together may take that no task has taken over yet. Beyond it, uploads are "
            "answered 507. What has arrived counts, and up to 1 MiB more of each unfinished upload."
        ),
    )
    upload_quota_per_user: Size = Field(
        50 * 1024**3,
        ge=1,
        description=(
            "The same for the uploads of one user. Callers without a user id count as one user; without "
            "authentication, they have only `files.upload_quota`."
        ),
    )
    max_uploads: int = Field(
        10_000,
        ge=1,
        description=(
            "How many uploads there may be that no task has taken over yet. Beyond it, further ones are answered 507."
        ),
    )
    max_uploads_per_user: int = Field(
        1000,
        ge=1,
        description="How many of these uploads may be of one user. Beyond it, further ones are answered 507.",
    )
    upload_types: Names = Field(
        default_factory=lambda: ["*/*"],
        description="Media types that may be uploaded, such as `video/*` or `image/png`; others are answered 415.",
    )
    upload_ttl: Duration = Field(
        24 * 3600.0,
        ge=1,
        description=(
            "How long an upload is kept after its last change if no task takes it over. Then it is deleted, finished "
            "or not."
        ),
    )
    empty_upload_ttl: Duration = Field(
        900.0,
        ge=1,
        description=(
            "How long a resumable upload is kept while no byte of it has arrived, if that is shorter than "
            "`files.upload_ttl`."
        ),
    )
    keep: Duration | None = Field(
        None,
        description=(
            "How long after their last change the files of a task are kept once its record is gone. Then they are "
            "deleted. Not set: they are kept for ever."
        ),
    )
    processing: ProcessingSettings = ProcessingSettings()

    def upload_folder(self, data_dir: Path) -> Path:
        """Return the folder of the upload area."""
        return self.upload_path or data_dir / "uploads"

    def roots(self, data_dir: Path) -> list[Path]:
        """Return the folders from which files may be handed over, as they are configured."""
        if self.allowed_roots is None:
            return [self.upload_folder(data_dir), Path(tempfile.gettempdir())]
        return self.allowed_roots
