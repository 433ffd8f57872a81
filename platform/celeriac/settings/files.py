"""Settings of files: where they live, what is taken over, how they are processed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from celeriac.settings.values import Duration, Section, Size


def _step_from_name(value: Any) -> Any:
    return {"processor": value} if isinstance(value, str) else value


class ChainStep(Section):
    """One step of a chain of file processors; written as the bare name where it needs no more."""

    processor: str = Field(min_length=1)
    #: What its options are, unless a submission says otherwise.
    options: dict[str, Any] = Field(default_factory=dict)
    #: Whether it works on the original or on what the first step made of it.
    of: Literal["original", "result"] = "original"


class ProcessingSettings(Section):
    """How `file_process` tasks run: each processor in a child process, with these limits."""

    #: Runs at once in one worker process; None is the number of CPUs.
    concurrency: int | None = Field(None, ge=1, le=1024)
    #: Longest run of a whole task, by the clock, and of each of its processes, in CPU time.
    timeout: Duration = Field(3600.0, gt=0)
    cpu_time: Duration = Field(4 * 3600.0, ge=1)
    #: Most memory of each process (its data, `RLIMIT_DATA`).
    memory: Size = Field(2 * 1024**3, ge=128 * 1024**2)
    #: Largest file that may be written.
    max_output_bytes: Size = Field(20 * 1024**3, ge=1)
    max_open_files: int = Field(256, ge=32)
    #: Largest picture, and largest frame of a video, in pixels.
    max_pixels: int = Field(100_000_000, ge=1)
    #: Longest video or sound.
    max_duration: Duration = Field(12 * 3600.0, gt=0)
    #: Threads of one ffmpeg.
    threads: int = Field(2, ge=1, le=64)
    #: The ffmpeg to use; None is the one on PATH, else the one that came with the installation.
    ffmpeg: Path | None = None
    #: Processors that are several in a row, by name. `video` is what `CreateTask` runs.
    chains: dict[str, list[Annotated[ChainStep, BeforeValidator(_step_from_name)]]] = Field(
        default_factory=lambda: {
            "video": [
                ChainStep(processor="transcode"),
                ChainStep(processor="thumbnail", of="result"),
                ChainStep(processor="probe", of="result"),
            ]
        }
    )

    @model_validator(mode="after")
    def _steps(self) -> Self:
        for name, steps in self.chains.items():
            if not steps:
                raise ValueError(f"the chain {name!r} has no steps")
            if len({step.processor for step in steps}) < len(steps):
                raise ValueError(f"the chain {name!r} has a processor twice")
        return self


def _paths_from_text(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


class S3Settings(Section):
    """Object storage that speaks S3. Credentials come from where AWS' tools find them (`AWS_ACCESS_KEY_ID`, …)."""

    #: URL of a server that is not Amazon's.
    endpoint: str | None = None
    region: str | None = None
    #: Whether the bucket is part of the host name.
    virtual_hosted: bool = False


class FilesSettings(Section):
    """Files: where they live, from where they are taken, and how they are processed."""

    #: Root of the storage: what is handed over goes to a folder of its task below it.
    storage_path: Path = Path("storage")
    #: Folders from which files may be taken over; None is the data folder's upload area and the system's
    #: temporary folder. In the environment separated like PATH.
    allowed_roots: Annotated[list[Path] | None, BeforeValidator(_paths_from_text)] = None
    #: Storage that several machines share, where the files of tasks then live: `s3://BUCKET/PREFIX`, or
    #: `file:///FOLDER` for one that is mounted everywhere (`STORAGE_URL`). None: they live in `storage_path`.
    storage_url: str | None = None
    s3: S3Settings = S3Settings()
    #: The upload area; None is `uploads` in the data folder. On the storage's filesystem a handoff is one rename.
    upload_path: Path | None = None
    #: Largest upload (`MAX_UPLOAD_BYTES`).
    max_upload_bytes: Size = Field(20 * 1024**3, ge=1)
    #: What all uploads together may take, and how many there may be at once.
    upload_quota: Size = Field(200 * 1024**3, ge=1)
    max_uploads: int = Field(10_000, ge=1)
    #: Media types that are taken, e.g. `video/*` or `image/png`.
    upload_types: list[str] = Field(default_factory=lambda: ["*/*"])
    #: How long an upload that no task took, or that nobody goes on with, is kept.
    upload_ttl: Duration = Field(24 * 3600.0, ge=1)
    #: How long the files of a task are kept once its record is gone; None is for ever.
    keep: Duration | None = None
    processing: ProcessingSettings = ProcessingSettings()
